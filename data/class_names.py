"""Files that give classes their names."""

import re
from collections import Counter

import tensorflow as tf

from data.errors import UserError
from data.files import read_lines


def read_folder_names(path: str) -> dict[str, str]:
    """Reads lines `<folder> <class name>`, divided by the first white space, such as ImageNet's synset list.

    Returns:
        Folder -> class name. A name that several folders have (ImageNet's two kinds of `crane`) is made unique by the
        folder: `crane (n02012849)`.

    Raises:
        UserError: the file cannot be read, or a line is not of this form.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(_read(path), start=1):
        if not line:
            continue
        parts = re.split(r"\s+", line, maxsplit=1)
        if len(parts) != 2 or parts[0] in names:
            found = "has no class name" if len(parts) != 2 else f"names the folder {parts[0]} again"
            raise UserError(
                f"data.class_names: line {number} of {path} {found}; each line is"
                " `<folder> <class name>`, each folder once"
            )
        names[parts[0]] = parts[1]
    counts = Counter(names.values())
    return {folder: name if counts[name] == 1 else f"{name} ({folder})" for folder, name in names.items()}


def read_label_names(path: str) -> list[str]:
    """Reads one class name a line, the first for label 0.

    Raises:
        UserError: the file cannot be read, a line is blank (its label would have no name), or a name occurs twice.
    """
    names = _read(path)
    if "" in names:
        raise UserError(
            f"data.class_names: line {names.index('') + 1} of {path} is blank; each line names a class, the first that"
            " of label 0, so fill it in or remove it"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"data.class_names: {path} holds {repeated[0]!r} twice; each line names another class")
    return names


def _read(path: str) -> list[str]:
    try:
        lines = read_lines(path)
    except (OSError, tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(
            f"data.class_names is {path}, which cannot be read; give a UTF-8 text file ({type(error).__name__})"
        ) from error
    if not any(lines):
        raise UserError(f"data.class_names is {path}, which is empty; give one line a class")
    return lines
