"""The network of an exported model: pixels in, the probabilities of all classes out, and nothing else."""

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from components.exported_model.signatures import PIXELS_ARGUMENT, PIXELS_SIGNATURE

PROBABILITIES = "probabilities"


class UnknownNetwork(ValueError):
    """The signature of pixels is not built as this project's Trainer builds it."""


def cut_network(signature: tf.types.experimental.ConcreteFunction, *, batch: int | None, floats: bool) -> Any:
    """Cuts the network out of a model's `serving_pixels`, weights included; what it computes stays as it is.

    That signature ends in names of classes, which no phone's runtime knows. In front of them are the probabilities.

    Args:
        signature: `serving_pixels` of a model that was loaded.
        batch: of the input; None leaves it open.
        floats: whether pixels are float32, 0..255, in place of uint8: full integers are made from floats.

    Returns:
        A tf.function: `pixels` [batch, size, size, 3] -> `probabilities`, float32 [batch, classes].

    Raises:
        UnknownNetwork: there are no such parts.
    """
    place = sorted(signature.structured_outputs).index(PROBABILITIES)
    frozen = convert_variables_to_constants_v2(signature)
    (pixels,) = frozen.inputs
    likeliest = _behind(frozen.outputs[place])
    if likeliest.op.type != "TopKV2":
        raise UnknownNetwork(f"{PIXELS_SIGNATURE} answers with a {likeliest.op.type}; TopKV2 was expected")
    feed, fetch = pixels, _behind(likeliest.op.inputs[0])
    if floats:
        feed = _in_front(pixels)
        if feed.op.type != "Cast" or feed.dtype != tf.float32:
            raise UnknownNetwork(f"{PIXELS_SIGNATURE} begins with a {feed.op.type}; a cast to float32 was expected")
    definition = _between(feed.op, fetch.op)
    shape = [batch, *pixels.shape[1:]]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, feed.dtype, name=PIXELS_ARGUMENT)])
    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        (probabilities,) = tf.graph_util.import_graph_def(
            definition, input_map={feed.name: pixels}, return_elements=[fetch.name], name=""
        )
        return {PROBABILITIES: probabilities}

    return network


def _behind(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _in_front(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the output of the first operation on an input that does something."""
    while tensor.op.type in ("Placeholder", "Identity") and len(tensor.consumers()) == 1:
        tensor = tensor.consumers()[0].outputs[0]
    return tensor


def _between(first: tf.Operation, last: tf.Operation) -> tf.compat.v1.GraphDef:
    """Returns the operations whose outputs `last` computes from, but for `first` and what leads to that alone."""
    found, pending = {}, [last]
    while pending:
        operation = pending.pop()
        if operation.name not in found and operation is not first:
            found[operation.name] = operation
            pending += [tensor.op for tensor in operation.inputs]
    definition = tf.compat.v1.GraphDef(versions=last.graph.as_graph_def().versions)
    for name in sorted(found):
        node = definition.node.add()
        node.CopyFrom(found[name].node_def)
        # None of them has an effect for which another would have to wait.
        node.input[:] = [tensor for tensor in node.input if not tensor.startswith("^")]
    return definition
