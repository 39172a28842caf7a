"""The images of a split that memory cannot hold, unpacked once on the local disk: read as fast as the disk gives them.

Transform's files are gzipped: reading them again in each epoch costs more than anything else that feeds a step. One
image after another in one file also lets an epoch be a permutation of all images, of which any step is reached at once.
"""

import itertools
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.progress import report_progress
from components.trainer.batches import read_records
from components.trainer.room import usable_disk_bytes, write_array
from components.transform.features import (
    CHANNELS,
    TRANSFORMED_FEATURE_SPEC,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    unpack_images,
)
from data.errors import UserError

_SAMPLED_RECORDS = 64
_RECORDS_AT_ONCE = 256


def can_unpack(files: Sequence[str], image_size: int, mounts: Path = Path("/proc/mounts")) -> bool:
    """Tells whether a split fits into half of what is free in the folder for temporary files (`TMPDIR`).

    Args:
        files: gzipped TFRecord files of transformed Examples, local or `gs://`.
        image_size: height and width in pixels.
        mounts: the kernel's list of mounted file systems; a folder in memory does not count as a disk.
    """
    sample = [record.numpy() for record in itertools.islice(read_records(files), _SAMPLED_RECORDS)]
    if not sample:
        return False
    # How many images there are is guessed from how far gzip shrinks the first ones.
    packed_bytes = len(zlib.compress(b"".join(sample))) / len(sample)
    count = sum(tf.io.gfile.stat(file).length for file in files) / packed_bytes
    return count * image_size * image_size * CHANNELS <= usable_disk_bytes(mounts)


def unpack(files: Sequence[str], image_size: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Writes the images of a split into a file without a name, which ends with the array or the process.

    Args:
        files: gzipped TFRecord files of transformed Examples, local or `gs://`.
        image_size: height and width in pixels.
        name: of the split, shown while it is unpacked.

    Returns:
        uint8 images [examples, image_size, image_size, 3], an `np.memmap`, and int64 labels [examples].

    Raises:
        UserError: the disk is full.
    """
    labels: list[np.ndarray] = []
    done = 0
    with tempfile.TemporaryFile(prefix="images-", buffering=0) as file:
        for images, batch_labels in _parse(read_records(files), image_size):
            labels.append(batch_labels)
            done += len(batch_labels)
            try:
                write_array(file, images)
            except OSError as error:
                raise UserError(
                    f"{tempfile.gettempdir()}: no space to unpack the images of {name} ({error.strerror} after "
                    f"{done:,}); free some, point TMPDIR at a larger disk, or set trainer.image_cache to off"
                ) from error
            report_progress(f"unpacking images of {name}", completed=done)
        shape = (done, image_size, image_size, CHANNELS)
        return np.memmap(file, np.uint8, "r", shape=shape), np.concatenate(labels)


def _parse(records: tf.data.Dataset, image_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in records.batch(_RECORDS_AT_ONCE).prefetch(2):
        features = tf.io.parse_example(batch, TRANSFORMED_FEATURE_SPEC)
        images = unpack_images(features[TRANSFORMED_IMAGE_KEY], image_size)
        yield images.numpy(), features[TRANSFORMED_LABEL_KEY].numpy()
