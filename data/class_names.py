"""Files that give classes their names."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

import tensorflow as tf

from data.errors import UserError
from data.features import normal_form
from data.files import read_lines

_FOLDER_LINE = re.compile(r"""(?:"(?P<quoted>[^"]+)"|(?P<folder>\S+))\s+(?P<name>.+)""")


def describe_similar(names: Iterable[str]) -> str | None:
    """Returns a line that names the classes that only case, white space or the width of letters tells apart, if any."""
    alike = defaultdict(list)
    for name in sorted(names):
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(repr(name))
    groups = [" and ".join(group) for group in alike.values() if len(group) > 1]
    if not groups:
        return None
    return f"learnt as different classes: {'; '.join(groups)}; if these are one, rename one as the other"


def read_folder_names(path: str) -> dict[str, str]:
    """Reads lines `<folder> <class name>`, divided by the first white space, such as ImageNet's synset list.

    A folder with white space stands in quotes: `"golden retriever" Golden`; so may then the name.

    Returns:
        Folder -> class name, both in normal form. A name that several folders have (ImageNet's two kinds of `crane`) is
        made unique by the folder: `crane (n02012849)`.

    Raises:
        UserError: the file cannot be read, or a line is not of this form.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(_read(path), start=1):
        if not line:
            continue
        parts = _FOLDER_LINE.fullmatch(line)
        folder = (parts["quoted"] or parts["folder"]) if parts else ""
        if parts is None or folder in names:
            found = f"names the folder {folder} again" if parts else "has no class name"
            raise UserError(
                f"data.class_names: line {number} of {path} {found}; each line is `<folder> <class name>`, each folder"
                " once, one with white space in quotes"
            )
        quoted = parts["quoted"] and re.fullmatch('"([^"]+)"', parts["name"])
        names[folder] = quoted[1] if quoted else parts["name"]
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
        lines = list(map(normal_form, read_lines(path)))
    except (OSError, tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(
            f"data.class_names is {path}, which cannot be read; give a UTF-8 text file ({type(error).__name__})"
        ) from error
    if not any(lines):
        raise UserError(f"data.class_names is {path}, which is empty; give one line a class")
    return lines
