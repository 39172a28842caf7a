"""The file of corrected labels, local, `gs://` or `s3://`."""

import csv
import hashlib
import io
from collections.abc import Mapping

import tensorflow as tf

from data.corrections import COLUMNS, Correction, parse_corrections
from data.errors import UserError
from data.files import read_bytes
from data.whole_files import write_text


def corrected_fingerprint(fingerprint: str, path: str | None) -> str:
    """Returns a source's fingerprint with the state of the corrections in it; the same where there are none.

    Raises:
        UserError: the file cannot be read.
    """
    if path is None:
        return fingerprint
    return hashlib.sha256(fingerprint.encode() + _read(path)).hexdigest()


def read_corrections(path: str) -> dict[str, Correction]:
    """Reads a file.

    Returns:
        Content hash -> correction, in the order of the file.

    Raises:
        UserError: it cannot be read, or a line is no correction.
    """
    return parse_corrections(_read(path), f"data.corrections: {path}")


def write_corrections(corrections: Mapping[str, Correction], path: str) -> None:
    """Writes a file; errors as `write_text`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((one.sha256, one.label, one.was, one.who, one.when) for one in corrections.values())
    write_text(path, text.getvalue())


def _read(path: str) -> bytes:
    try:
        return read_bytes(path)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(
            f"data.corrections is {path}, which cannot be read ({reason}); give a file of python -m pipeline.labels"
        ) from None
