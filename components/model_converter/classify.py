"""Classifies images: `python classify.py IMAGE...`, or their paths on standard input, one a line."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime  #: onnx
from PIL import Image, ImageOps

try:  #: litert
    from ai_edge_litert.interpreter import Interpreter  #: litert
except ImportError:  #: litert
    from tensorflow.lite.python.interpreter import Interpreter  #: litert

HERE = Path(__file__).parent
SIZE = json.loads((HERE / "preprocessing.json").read_text(encoding="utf-8"))["image_size"]
LABELS = (HERE / "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])  #: onnx
interpreter = Interpreter(str(HERE / "model.tflite"))  #: litert
interpreter.allocate_tensors()  #: litert
(given,), (asked,) = interpreter.get_input_details(), interpreter.get_output_details()  #: litert


def average(rows: np.ndarray, count: int) -> np.ndarray:  # each new row: the mean of those that it covers  #: area
    edges, cells = np.linspace(0, len(rows), count + 1), np.arange(len(rows))  #: area
    shares = np.minimum(edges[1:, np.newaxis], cells + 1) - np.maximum(edges[:-1, np.newaxis], cells)  #: area
    return shares.clip(0) @ rows / (len(rows) / count)  #: area


def prepare(file: str) -> np.ndarray:  # the image as a person sees it, over white: uint8 [1, SIZE, SIZE, 3], RGB
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    left, top = ((side - min(image.size)) // 2 for side in image.size)  #: crop
    image = image.crop((left, top, left + min(image.size), top + min(image.size)))  #: crop
    inner = (sides := np.array([image.height, image.width], np.float32)) / (sides / np.float32(SIZE)).max()  #: pad
    (height, width), (top, left) = np.maximum(1, inner.astype(int)), (SIZE - inner).astype(int) // 2  #: pad
    height = width = SIZE  #: stretch crop
    kernel = Image.Resampling.BILINEAR  #: bilinear
    kernel = Image.Resampling.BICUBIC  #: bicubic
    kernel = Image.Resampling.LANCZOS  #: lanczos3
    channels = [np.asarray(one.convert("F").resize((width, height), kernel)) for one in image.split()]  #: kernel
    channels = [average(average(np.asarray(one), height).T, width).T for one in image.split()]  #: area
    pixels = np.dstack(channels).round().clip(0, 255).astype(np.uint8)
    pixels = np.pad(pixels, ((top, SIZE - height - top), (left, SIZE - width - left), (0, 0)))  #: pad
    return pixels[np.newaxis]


def classify(pixels: np.ndarray) -> np.ndarray:  # probabilities, float32, in the order of the labels
    return session.run(["probabilities"], {"pixels": pixels})[0][0]  #: onnx
    interpreter.set_tensor(given["index"], pixels)  #: litert
    interpreter.invoke()  #: litert
    return interpreter.get_tensor(asked["index"])[0]  #: float
    return interpreter.get_tensor(asked["index"])[0] / np.float32(256)  #: int8


for name in sys.argv[1:] or map(str.rstrip, sys.stdin):
    pixels, begun = prepare(name), time.perf_counter()
    probabilities, seconds = classify(pixels), time.perf_counter() - begun
    told = {"label": LABELS[probabilities.argmax()], "probability": float(probabilities.max()), "seconds": seconds}
    print(json.dumps({"file": name, **told}, ensure_ascii=False), flush=True)
