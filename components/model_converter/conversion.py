"""Converts a model into one format, in a process of its own: converters may end theirs, or keep gigabytes.

    python -m components.model_converter.conversion SAVED_MODEL FORMAT FOLDER

The folder gets the format's file, and `MEASURED_FILE`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.exported_model.signatures import PIXELS_SIGNATURE, RESIZE_SIGNATURE
from components.model_converter.formats import FORMATS
from components.model_converter.network import cut_network
from data.decode import decode_image

MEASURED_FILE = "measured.json"
"""`{"milliseconds"}`: of the SavedModel's `serving_pixels`, one image at a time, the median."""

CALIBRATION_FILE = "calibration.tfrecord"
"""Encoded images, where the format needs some."""

_TIMED_CALLS, _TIMED_SECONDS = 20, 5.0
_ONNX_OPSET = 17  # onnxruntime 1.12 and later


def main(saved_model_path: str, format: str, folder: str) -> None:
    """Converts, and times the SavedModel.

    Raises:
        ValueError: the model cannot be had in this format.
    """
    loaded, place = tf.saved_model.load(saved_model_path), Path(folder)
    content = _CONVERTERS[format](loaded, place)
    (place / FORMATS[format].model_file).write_bytes(content)
    (place / MEASURED_FILE).write_text(json.dumps({"milliseconds": _time(loaded)}), encoding="utf-8")


def _convert_to_litert(loaded: Any, _: Path) -> bytes:
    return _make_litert(loaded, floats=False).convert()


def _convert_to_int8(loaded: Any, folder: Path) -> bytes:
    """Quantises weights and activations after training: uint8 pixels in, uint8 probabilities (of 256) out."""
    converter = _make_litert(loaded, floats=True)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    converter.representative_dataset = lambda: _calibrate(loaded, folder)
    content = converter.convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    found = [
        (one["dtype"], *one["quantization"])
        for one in (*interpreter.get_input_details(), *interpreter.get_output_details())
    ]
    if found != [(np.uint8, 1.0, 0), (np.uint8, 1 / 256, 0)]:
        raise ValueError(f"its input and output are quantised as {found}, not as pixels and shares of 256")
    return content


def _make_litert(loaded: Any, *, floats: bool) -> Any:
    network = cut_network(loaded.signatures[PIXELS_SIGNATURE], batch=1, floats=floats)
    return tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], network)


def _calibrate(loaded: Any, folder: Path) -> Iterator[list[np.ndarray]]:
    """Yields inputs of the model, float32 [1, size, size, 3], made as Transform makes them."""
    for number, encoded in enumerate(tf.data.TFRecordDataset(str(folder / CALIBRATION_FILE))):
        pixels = loaded.signatures[RESIZE_SIGNATURE](picture=decode_image(encoded))["pixels"].numpy()
        if number == 0:
            # The range of pixels is known: with a black and a white one in it a uint8 is what it was.
            pixels[0, 0], pixels[-1, -1] = 0, 255
        yield [pixels[np.newaxis].astype(np.float32)]


def _convert_to_onnx(loaded: Any, _: Path) -> bytes:
    from tf2onnx.convert import from_function

    network = cut_network(loaded.signatures[PIXELS_SIGNATURE], batch=None, floats=False)
    proto, _ = from_function(network, input_signature=network.input_signature, opset=_ONNX_OPSET)
    return proto.SerializeToString()


_CONVERTERS: dict[str, Callable[[Any, Path], bytes]] = {
    "litert": _convert_to_litert,
    "litert-int8": _convert_to_int8,
    "onnx": _convert_to_onnx,
}


def _time(loaded: Any) -> float:
    signature = loaded.signatures[PIXELS_SIGNATURE]
    ((shape, dtype),) = [(one.shape, one.dtype) for one in signature.structured_input_signature[1].values()]
    pixels = tf.cast(tf.random.stateless_uniform([1, *shape[1:]], [0, 0], 0, 256, tf.int32), dtype)
    signature(pixels=pixels)
    taken: list[float] = []
    while len(taken) < _TIMED_CALLS and sum(taken) < _TIMED_SECONDS:
        begun = time.perf_counter()
        signature(pixels=pixels)["probabilities"].numpy()
        taken.append(time.perf_counter() - begun)
    return 1000 * float(np.median(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
