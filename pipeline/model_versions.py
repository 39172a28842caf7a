"""Where a model is that is to answer: a version, or the newest of a folder of versions, here or in a bucket."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.exported_model import SAVED_MODEL_FILE
from data import gfile
from data.errors import UserError
from pipeline.output_dir import DEFAULT_OUTPUT


def no_model(given: str) -> UserError:
    """Returns what is told of a place without a model."""
    return UserError(f"--model {given}: holds neither a {SAVED_MODEL_FILE} nor numbered versions of a model")


def find_model(given: str | None) -> str:
    """Returns the folder of a SavedModel: the given one, or the newest version below it or the default output.

    Raises:
        UserError: there is none, or a bucket cannot be reached.
    """
    if given is None:
        bases = DEFAULT_OUTPUT.glob("*/serving_model/*")
        versions = {number: path for base in bases for number, path in list_versions(str(base)).items()}
        if not versions:
            raise UserError(
                f"no pushed model in {DEFAULT_OUTPUT}; run python -m pipeline.run_local first, or name one with --model"
            )
        return versions[max(versions)]
    given = given.rstrip("/") or given
    if is_model(given):
        return given
    if not (versions := list_versions(given)):
        raise no_model(given)
    return versions[max(versions)]


def is_model(path: str) -> bool:
    """Says whether a folder is a SavedModel; errors as `list_versions`."""
    if "://" not in path:
        return Path(path, SAVED_MODEL_FILE).is_file()
    with _explained(path):
        return gfile.exists(f"{path}/{SAVED_MODEL_FILE}")


def list_versions(folder: str) -> dict[int, str]:
    """Returns the versions in a folder, number to path, without what is not whole.

    Raises:
        UserError: a bucket cannot be reached.
    """
    pattern = f"*/{SAVED_MODEL_FILE}"
    if "://" not in folder:
        files = list(map(str, Path(folder).glob(pattern)))
    else:
        with _explained(folder):
            files = gfile.glob(f"{folder}/{pattern}")
    found = map(os.path.dirname, files)
    return {int(os.path.basename(path)): path for path in found if os.path.basename(path).isdecimal()}


@contextmanager
def _explained(path: str) -> Iterator[None]:
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--model {path}: cannot be read: {reason}; check its name and that you may read it") from None
