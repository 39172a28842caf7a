"""Formats out of TensorFlow: really converted, and run by the client that users get."""

import ast
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.exported_model.manifest import Manifest
from components.model_converter import client
from components.model_converter.formats import FORMATS
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from tests.images import encode

ASPECTS = ("stretch", "crop", "pad")
METHODS = ("bilinear", "bicubic", "lanczos3", "area")


def make_manifest(**changes: Any) -> Manifest:
    values = {"backbone": "vgg16", "learn_statistics": False, "image_size": 32, "classes": ("a", "b"), "versions": {}}
    return Manifest(**{**values, **changes})


def own_prepare(manifest: Manifest, format: str = "onnx") -> Any:
    """Returns the function `prepare` of a client, without loading a model."""
    tree = ast.parse(client.make_client(format, manifest))
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name != "classify"]
    names: dict[str, Any] = {"np": np, "SIZE": manifest.image_size}
    exec("from PIL import Image, ImageOps", names)
    exec(compile(ast.Module(wanted, []), "client", "exec"), names)
    return names["prepare"]


@pytest.mark.parametrize(("aspect", "method"), itertools.product(ASPECTS, METHODS))
def test_a_client_makes_of_an_image_what_transform_makes_of_it(aspect: str, method: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    prepare = own_prepare(make_manifest(aspect=aspect, resize_method=method))
    settings = TransformSettings(image_size=32, aspect=aspect, resize_method=method)
    for number, shape in enumerate([(77, 100), (333, 250), (20, 50), (32, 32), (1000, 30)]):
        pixels = random.integers(0, 256, (*shape, 3)).astype(np.uint8)
        path = tmp_path / str(number)
        path.write_bytes(encode(pixels, "PNG"))
        expected = resize_image(tf.constant(pixels), settings).numpy()
        found = prepare(str(path))
        assert (found.shape, found.dtype) == ((1, 32, 32, 3), np.uint8)
        difference = np.abs(found[0].astype(int) - expected)
        # Sums in another order: where they end beside a half they are rounded to the neighbour.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(("format", "aspect", "method"), itertools.product(FORMATS, ASPECTS, METHODS))
def test_a_client_has_at_most_40_lines_and_imports_little(format: str, aspect: str, method: str) -> None:
    text = client.make_client(format, make_manifest(aspect=aspect, resize_method=method))
    assert len([line for line in text.splitlines() if line.strip()]) <= 40
    assert "#: " not in text
    imported = {name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names}
    packages = {name.name for name in imported} - sys.stdlib_module_names
    packages |= {node.module.split(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    runtime = {"onnxruntime"} if format == "onnx" else {"ai_edge_litert", "tensorflow"}
    assert packages - sys.stdlib_module_names == {"numpy", "PIL"} | runtime
