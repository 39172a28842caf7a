"""How many examples are taken at a time, where Beam would go by time alone: up to 1,000, whatever they weigh."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils
from tfx_bsl.coders import batch_util

from components.progress import ImageCount

_BATCH_BYTES = 16 * 2**20
_MOST_RECORDS = 1000
_SAMPLED_RECORDS = 64
# 16 images of 224 pixels: VGG16's largest layer then takes 200 MB.
_BATCH_PIXELS = 16 * 224**2
_MOST_IMAGES = 128


def images_at_once(image_size: int) -> int:
    """Returns how many images of a size (height and width in pixels) a model is asked about at once."""
    return max(1, min(_MOST_IMAGES, _BATCH_PIXELS // image_size**2))


def records_at_once(examples: Artifact, splits: Iterable[str], made_bytes: int = 0) -> int:
    """Returns how many records make 16 MiB, at most 1,000, by the mean of the first 64 of a split.

    A step holds a batch several times: as read, as parsed, as a tensor, and what is made of it.

    Args:
        examples: whose records are gzipped.
        splits: of them.
        made_bytes: of what a record becomes, where that may be more.
    """
    means = [made_bytes]
    for split in splits:
        files = sorted(tf.io.gfile.glob(io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], split))))
        records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator() if files else ()
        sizes = [len(record) for record in itertools.islice(records, _SAMPLED_RECORDS)]
        means.append(sum(sizes) // max(len(sizes), 1))
    return max(1, min(_MOST_RECORDS, _BATCH_BYTES // max(*means, 1)))


@contextlib.contextmanager
def reading_in_batches(size: int, count: ImageCount) -> Iterator[None]:
    """Pipelines that are built inside it read examples by so many, where TFX's executors leave that to Beam.

    They have no argument for it, and the flag of TFX's library goes by the bytes of what is read alone.

    Args:
        size: of a batch.
        count: is told of each record.
    """
    choose = batch_util.GetBatchElementsKwargs

    def choose_bounded(batch_size: int | None, element_size_fn: Callable[[Any], int] = len) -> dict[str, Any]:
        # Beam asks for the size of each record; here it is 1.
        return {**choose(batch_size or size, element_size_fn), "element_size_fn": count}

    batch_util.GetBatchElementsKwargs = choose_bounded
    try:
        yield
    finally:
        batch_util.GetBatchElementsKwargs = choose
