"""The gradient of convolutions' kernels on a CPU in bfloat16, where their maps are small."""

from typing import Any

import tensorflow as tf
import tf_keras

# Of an output map: 14 x 14.
_MOST_PIXELS = 196


def speed_up_kernel_gradients(model: tf_keras.Model) -> None:
    """Has a model's convolutions over small maps compute their kernel's gradient tap by tap.

    The same sums, each in float32 and rounded to bfloat16 at its end. oneDNN's own routine (3.3.4, AVX512-BF16, 2
    cores, 32 images, 512 channels) takes 13 ms over maps of 2 x 2 and of 4 x 4 pixels and 98 over 14 x 14, this 2, 5
    and 80; over larger maps it gains nothing, nor in float32. On an Intel Xeon with the same instructions whole steps
    at 32 px went from 84.7 to 82.7 images/s (issue 11): `precision.py` measures where it is used, or asks its table.
    Other devices have good routines of their own.

    Args:
        model: trained on a CPU; only what computes in bfloat16 is changed, also in models within the model.
    """
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if type(layer) is tf_keras.layers.Conv2D and _gains(layer):
            layer.convolution_op = _convolve


def _gains(layer: tf_keras.layers.Conv2D) -> bool:
    _, height, width, _ = layer.input_shape
    return (
        layer.compute_dtype == "bfloat16"
        and "convolution_op" not in vars(layer)  # a depthwise one, of which the backbone has made another operation
        and layer.padding == "same"
        and layer.groups == 1
        and layer.strides == layer.dilation_rate == (1, 1)
        and min(layer.kernel_size) > 1
        and all(size % 2 for size in layer.kernel_size)
        and height * width <= _MOST_PIXELS
    )


def _convolve(inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
    """Stands in for a layer's `convolution_op`; the kernel is a variable."""
    return _convolve_by_taps(inputs, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def _convolve_by_taps(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
    def differentiate(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs_gradient = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
        )
        return inputs_gradient, differentiate_kernel(inputs, upstream, kernel.shape)

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), differentiate


def differentiate_kernel(inputs: tf.Tensor, upstream: tf.Tensor, kernel_shape: tf.TensorShape) -> tf.Tensor:
    """Returns the gradient of the kernel of a convolution of stride 1 with "same" padding.

    Each tap of the kernel is one product: of the pixels that it saw with the gradients of what it made of them. Taps
    over the padding have nothing to add, and are left out.

    Args:
        inputs: [n, height, width, channels].
        upstream: [n, height, width, filters], the gradient of the outputs.
        kernel_shape: [rows, columns, channels, filters], rows and columns odd.

    Returns:
        `kernel_shape`, in the type of the inputs.
    """
    rows, columns, channels, filters = kernel_shape
    height, width = inputs.shape[1:3]
    # Rows first: a slice of them is then no copy.
    inputs, upstream = (tf.transpose(images, [1, 0, 2, 3]) for images in (inputs, upstream))
    taps = {}
    for column in range(columns):
        seen, made = _overlap(column - columns // 2, width)
        seen_columns, made_columns = inputs[:, :, seen], upstream[:, :, made]
        for row in range(rows):
            seen, made = _overlap(row - rows // 2, height)
            taps[row, column] = tf.matmul(
                tf.reshape(seen_columns[seen], [-1, channels]),
                tf.reshape(made_columns[made], [-1, filters]),
                transpose_a=True,
            )
    return tf.reshape(tf.stack([taps[tap] for tap in sorted(taps)]), kernel_shape)


def _overlap(offset: int, size: int) -> tuple[slice, slice]:
    """Returns what a tap sees of a side of the inputs, and which outputs it makes of that."""
    return slice(max(0, offset), max(0, size + min(0, offset))), slice(max(0, -offset), max(0, size - max(0, offset)))
