"""A few original files of the test split, beside the examples, which hold a PNG in their place.

A client has such files (EXIF-rotated, WebP, 16-bit and the like) as they are, and must turn them into the same picture
as the pipeline did: the serving validator tries it on these.
"""

import os

import tensorflow as tf

ORIGINALS_DIR = "originals"
MAX_ORIGINALS = 8
_STORED_SUFFIX = ".stored.png"


def write_original(examples_uri: str, sha256: str, original: bytes, stored: bytes) -> None:
    """Writes one file, and the PNG that the pipeline made of it.

    Args:
        examples_uri: local or remote folder of the `examples` artifact.
        sha256: of the original, hexadecimal; names the files, so that a repeated call changes nothing.
        original: the file's bytes.
        stored: the image in its example.
    """
    folder = os.path.join(examples_uri, ORIGINALS_DIR)
    tf.io.gfile.makedirs(folder)
    for name, content in ((sha256, original), (sha256 + _STORED_SUFFIX, stored)):
        with tf.io.gfile.GFile(os.path.join(folder, name), "wb") as file:
            file.write(content)


def read_originals(examples_uri: str) -> list[tuple[bytes, bytes]]:
    """Returns (original, stored) of each file that was kept, by its hash; none where the folder is not there."""
    stored_paths = sorted(tf.io.gfile.glob(os.path.join(examples_uri, ORIGINALS_DIR, f"*{_STORED_SUFFIX}")))
    return [(_read(path.removesuffix(_STORED_SUFFIX)), _read(path)) for path in stored_paths]


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
