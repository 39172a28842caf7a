"""Transform's graph as part of the exported model, fed with some of the raw features only."""

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf
import tensorflow_transform as tft

RawFeature: TypeAlias = tf.Tensor | tf.SparseTensor


class TransformGraph(tf.Module):
    """The graph that Transform wrote, with its vocabulary as an asset.

    TFT's own `transform_features_layer` is a Keras model: tracking it would bring Keras's metadata into the
    SavedModel, and its call goes through AutoGraph.
    """

    def __init__(self, transform_output: tft.TFTransformOutput) -> None:
        """Loads the graph."""
        super().__init__()
        self._graph = tf.saved_model.load(transform_output.transform_savedmodel_dir)
        self._spec = transform_output.raw_feature_spec()

    def parse(self, examples: tf.Tensor, keys: Sequence[str]) -> dict[str, RawFeature]:
        """Parses the named raw features of serialised Examples, string [batch]; others may be missing in them."""
        return tf.io.parse_example(examples, {key: self._spec[key] for key in keys})

    def as_raw_feature(self, key: str, values: tf.Tensor) -> RawFeature:
        """Shapes one value per example, [batch], as the schema says that the raw feature is."""
        spec = self._spec[key]
        if isinstance(spec, tf.io.VarLenFeature):
            return tf.sparse.from_dense(tf.expand_dims(values, 1))
        return tf.reshape(values, [-1, *spec.shape])

    def apply(self, features: dict[str, RawFeature]) -> dict[str, tf.Tensor]:
        """Transforms a batch.

        Args:
            features: at least those that the wanted outputs depend on; the graph wants all, and gets empty ones.

        Returns:
            All transformed features, [batch]; those that depend on missing features mean nothing.
        """
        first = next(iter(features.values()))
        batch_size = first.dense_shape[0] if isinstance(first, tf.SparseTensor) else tf.shape(first, tf.int64)[0]
        missing = {key: _empty_feature(spec, batch_size) for key, spec in self._spec.items() if key not in features}
        return self._graph.transform_fn({**missing, **features})


def _empty_feature(spec: tf.io.FixedLenFeature | tf.io.VarLenFeature, batch_size: tf.Tensor) -> RawFeature:
    """Returns a batch of empty strings or zeros that fits a feature's spec."""
    if isinstance(spec, tf.io.VarLenFeature):
        shape = tf.stack([batch_size, tf.constant(0, tf.int64)])
        return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], spec.dtype), shape)
    return tf.zeros(tf.concat([[batch_size], tf.constant(spec.shape, tf.int64, [len(spec.shape)])], 0), spec.dtype)
