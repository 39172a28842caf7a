"""What a frozen backbone makes of the images, kept in whole chunks: nothing of it is computed twice.

A run that was killed goes on after its last chunk, and another recipe in the same folder finds the features there.
"""

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components.progress import report_progress
from components.trainer.batches import Augment
from components.trainer.checkpoints import FEATURES_PREFIX
from components.trainer.inputs import Split, distribute
from components.trainer.learner import feature_model
from data.errors import UserError
from data.files import is_remote, remove_path

_CHUNK_SECONDS = 10.0


class FeatureStore:
    """A folder with chunks of features; without a folder, they are computed and not kept."""

    def __init__(self, root: str | None, marks: Mapping[str, Any]) -> None:
        """Removes the features of others from a disk.

        Args:
            root: local or `gs://` folder of all trainings of one pipeline; None keeps nothing.
            marks: all that the features depend on, but for the split and the view; JSON's types.
        """
        self._folder: str | None = None
        if root is None:
            return
        name = FEATURES_PREFIX + hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = os.path.join(root, name)
        if not is_remote(root) and tf.io.gfile.isdir(root):
            for found in tf.io.gfile.listdir(root):
                if found.startswith(FEATURES_PREFIX) and found.rstrip("/") != name:
                    remove_path(os.path.join(root, found.rstrip("/")))

    def compute(
        self,
        model: tf_keras.Model,
        split: Split,
        name: str,
        view: tuple[int, Augment] | None = None,
        until: Callable[[], bool] = lambda: False,
        forward: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns all that `chunks` yields as one, or None where it ends early; arguments as there."""
        found = list(self.chunks(model, split, name, view, until, forward))
        whole = [chunk for chunk in found if chunk is not None]
        if len(whole) < len(found):
            return None
        if not whole:
            return np.zeros([0, *feature_model(model).output_shape[1:]], np.float32), np.zeros(0, np.int64)
        return np.concatenate([features for features, _ in whole]), np.concatenate([labels for _, labels in whole])

    def chunks(
        self,
        model: tf_keras.Model,
        split: Split,
        name: str,
        view: tuple[int, Augment] | None = None,
        until: Callable[[], bool] = lambda: False,
        forward: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
        """Yields float32 features [n, ...] and int64 labels [n] of the images that weigh anything, in order.

        Args:
            model: whose features are wanted, from images.
            split: of images.
            name: of split and view: a file name, and shown.
            view: number and way of changing the images; None leaves them alone.
            until: is asked after each batch; if it says True, what is complete is kept, and None is the last.
            forward: maps the inputs of a split that does not hold images to features.

        Raises:
            UserError: there is no space for a chunk; those before it are kept.
        """
        # A batch more than the images fill would be computed for nothing.
        batches, done, images = -(-split.count // split.batch_size), 0, 0
        for chunk in self._read(name):
            done, images = done + int(chunk["batches"]), images + len(chunk["labels"])
            yield chunk["features"], chunk["labels"]
        if done < batches:
            strategy = model.distribute_strategy
            read_features = forward or partial(feature_model(model), training=False)
            static = isinstance(strategy, tf.distribute.TPUStrategy)

            def compute(inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
                # What only fills the last batch is not computed: of 42 images in batches of 32 it would be a third.
                rows = None if static else tf.reduce_max(tf.where(weights > 0, tf.range(tf.size(weights)) + 1, 1))
                features = tf.cast(read_features(inputs[:rows]), tf.float32)
                missing = tf.size(weights) - tf.shape(features)[0]
                return tf.pad(features, [[0, missing]] + [[0, 0]] * (features.shape.rank - 1)), labels, weights

            @tf.autograph.experimental.do_not_convert
            def run(batch: Any) -> Any:
                return strategy.run(compute, args=batch)

            def read(share: Any) -> tf.data.Dataset:
                in_order = partial(split.in_order, share) if view is None else partial(split.in_order, share, *view)
                return in_order().skip(done)

            dataset = distribute(strategy, read)
            function = tf.function(run, input_signature=[dataset.element_spec], autograph=False)
            pending: list[tuple[np.ndarray, np.ndarray]] = []
            saved_at = time.monotonic()
            for number, batch in enumerate(dataset, start=done + 1):
                parts = [strategy.experimental_local_results(values) for values in function(batch)]
                found, labels, weights = (np.concatenate([part.numpy() for part in values]) for values in parts)
                pending.append((found[weights > 0], labels[weights > 0]))
                images += len(pending[-1][1])
                report_progress(f"features of {name}", completed=images, total=split.count)
                stop = until()
                if stop or number == batches or time.monotonic() - saved_at > _CHUNK_SECONDS:
                    chunk = self._write(name, number - len(pending), pending)
                    yield chunk["features"], chunk["labels"]
                    pending, saved_at = [], time.monotonic()
                if stop:
                    yield None
                    return

    def _path(self, name: str, start: int) -> str:
        """Returns the path of the chunk that begins with a batch, from 0.

        Two attempts in a bucket may make chunks of other lengths: from whomever it is, one is followed by its own next.
        """
        assert self._folder is not None
        return os.path.join(self._folder, f"{name}-{start:05d}.npz")

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        done = 0
        while self._folder is not None and tf.io.gfile.exists(self._path(name, done)):
            with (
                tf.io.gfile.GFile(self._path(name, done), "rb") as file,
                np.load(io.BytesIO(file.read()), allow_pickle=False) as saved,
            ):
                chunk = {key: saved[key] for key in ("features", "labels", "batches")}
            yield chunk
            done += int(chunk["batches"])

    def _write(self, name: str, start: int, batches: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        """Puts a chunk in place, and returns it."""
        chunk = {
            "features": np.concatenate([features for features, _ in batches]),
            "labels": np.concatenate([labels for _, labels in batches]),
            "batches": len(batches),
        }
        if self._folder is not None:
            content = io.BytesIO()
            np.savez(content, **chunk)
            _put(self._path(name, start), content.getvalue())
        return chunk


def _put(path: str, content: bytes) -> None:
    """Writes a local or `gs://` file whole, or not at all.

    Raises:
        UserError: there is no space, or the place cannot be written.
    """
    # A bucket's files appear whole; one that is renamed there could be taken away by another attempt that writes it.
    written = path if is_remote(path) else f"{path}.tmp"
    try:
        tf.io.gfile.makedirs(os.path.dirname(path))
        with tf.io.gfile.GFile(written, "wb") as file:
            file.write(content)
        if written != path:
            tf.io.gfile.rename(written, path, overwrite=True)
    except tf.errors.OpError as error:
        with contextlib.suppress(tf.errors.OpError):
            remove_path(written)
        raise UserError(
            f"{path}: the features of {len(content):,} bytes cannot be written ({error.message.split('; ')[-1]}); free "
            "some space there, or use another output folder, and run again: the chunks before it are kept"
        ) from error
