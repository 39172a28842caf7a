"""A small model whose right answer to every picture is known, and a server of it, for tests."""

import asyncio
import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.exported_model.manifest import Manifest, write_manifest
from components.exported_model.signatures import SIGNATURES
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from data.decode import decode_image
from pipeline.serving.answering import Answering
from pipeline.serving.app import Routes, Server
from pipeline.serving.limits import Limits
from pipeline.serving.model_source import ModelSource
from pipeline.serving.server import bind, serve
from pipeline.serving.versions import Versions
from tests.images import encode

COLOURS = ("red", "green", "blue")
SIZE = 16
_TRANSFORM = TransformSettings(image_size=SIZE)


def paint(colour: str, seed: int = 0, format: str = "PNG") -> bytes:
    """Returns a picture in which a colour is the strongest, with some noise."""
    pixels = np.random.default_rng(seed).integers(0, 60, (24, 20, 3), np.uint8)
    pixels[..., COLOURS.index(colour)] += 150
    return encode(pixels, format)


def probability_of(version: int) -> float:
    """Returns with which probability a version of the model gives its answer, whatever the picture."""
    return 0.5 + version / 1000


def make_colour_model(
    folder: Path, version: int, *, decides: bool = True, explains: bool = True, measures: bool = False
) -> Path:
    """Exports a model that answers with the strongest colour, decides but for blue, and does not know what is dark.

    Args:
        folder: where it goes.
        version: which its probabilities tell.
        decides: whether it has `decision` and `unknown_score`.
        explains: whether it has `explain`.
        measures: its probabilities tell how strong each colour is, to the last pixel, and not its version.
    """
    first = probability_of(version)
    values = tf.constant([first, (1 - first) * 0.6, (1 - first) * 0.4], tf.float32)
    names = tf.constant(COLOURS)

    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        means = tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2])
        order = tf.argsort(means, direction="DESCENDING", stable=True)
        probabilities = tf.tile(values[None], [tf.shape(means)[0], 1])
        if measures:
            probabilities = tf.sort(tf.nn.softmax(means / 20), direction="DESCENDING")
        outputs = {"labels": tf.gather(names, order), "probabilities": probabilities}
        if decides:
            best = outputs["labels"][:, 0]
            outputs["decision"] = tf.where(best == "blue", "", best)
            outputs["unknown_score"] = 20.0 / tf.maximum(tf.reduce_max(means, axis=1), 1)
        return outputs

    def resize_picture(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pixels": resize_image(picture, _TRANSFORM)}

    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def prepare(one: tf.Tensor) -> tf.Tensor:
            return resize_image(decode_image(one), _TRANSFORM)

        return answer(tf.map_fn(prepare, image_bytes, fn_output_signature=tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)))

    def serving_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(pixels)

    def explain(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        brightness = tf.reduce_max(tf.cast(pixels, tf.float32), axis=-1)[:, ::4, ::4] / 255
        return {key: value for key, value in answer(pixels).items() if key in ("labels", "probabilities")} | {
            "evidence": brightness
        }

    module = tf.Module()
    functions = [serving_default, resize_picture, serving_pixels, *([explain] if explains else [])]
    signatures = {}
    for function in functions:
        name = function.__name__
        if name in ("explain", "serving_pixels"):
            spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="pixels")
        else:
            spec = tf.TensorSpec(SIGNATURES[name].shape, SIGNATURES[name].dtype, name=SIGNATURES[name].argument)
        signatures[name] = tf.function(function, autograph=False, input_signature=[spec])
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)
    manifest = Manifest(
        backbone="vgg16", learn_statistics=False, image_size=SIZE, classes=COLOURS, bit_depth=12, versions={}
    )
    write_manifest(str(folder), manifest)
    return folder


@dataclass
class Client:
    """Asks a server that runs.

    Attributes:
        port: on 127.0.0.1.
        server: what runs; None of a process of its own.
    """

    port: int
    server: Server | None = None

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Returns status, headers (in small letters) and the answer, parsed where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            told = {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()
        is_json = told.get("content-type", "").startswith("application/json")
        return response.status, told, json.loads(content) if is_json else content

    def predict(self, image: bytes, path: str = "/predict", kind: str = "image/png") -> tuple[int, dict[str, str], Any]:
        """Sends an image as it is."""
        return self.ask("POST", path, image, {"Content-Type": kind})

    def send_json(self, path: str, value: Any) -> tuple[int, dict[str, str], Any]:
        """Sends JSON."""
        return self.ask("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})


def b64(image: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(image).decode()}


@contextmanager
def running(
    model: Path, *, batch: int = 8, poll_seconds: float = 0.1, routes: Routes | None = None, **limits: Any
) -> Iterator[Client]:
    """Runs a server of a model, or of the folder of its versions, in a thread of this process."""
    bounds = Limits(**{"max_bytes": 1_000_000, "max_pixels": 1_000_000, **limits})
    bounds.check()
    answering = Answering(bounds, wait_seconds=0.005)
    versions = Versions(ModelSource(str(model)), answering.make_batcher, batch, lambda line: None)
    versions.start()
    server = Server(versions, answering, bounds, routes or Routes())
    app = server.make_app()
    taken = bind("127.0.0.1", 0)
    stops: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
    begun = threading.Event()

    def listen(stop: Callable[[], None]) -> None:
        stops.append((asyncio.get_running_loop(), stop))

    thread = threading.Thread(target=lambda: asyncio.run(serve(server, app, taken, poll_seconds, listen, begun.set)))
    port = taken.getsockname()[1]
    thread.start()
    try:
        assert begun.wait(30)
        yield Client(port, server)
    finally:
        for loop, stop in stops:
            loop.call_soon_threadsafe(stop)
        thread.join(60)
        assert not thread.is_alive()
