"""Predict refuses what is no model of this pipeline; its answers are tested at the end of the end-to-end story."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.exported_model.manifest import Manifest, write_manifest
from data.decode import decode_image
from data.errors import UserError
from pipeline.model_versions import find_model
from pipeline.predict import predict
from pipeline.serving.model_source import ModelSource
from tests.images import encode


def test_a_model_with_another_signature_is_refused_in_one_line(tmp_path: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.double})
    with pytest.raises(UserError, match="its serving_default does not map image_bytes to labels") as caught:
        predict(["a.jpg"], tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    module = tf.Module()
    module.weights = tf.Variable(tf.ones([64, 64]))
    tf.saved_model.save(module, str(tmp_path))
    (tmp_path / "variables" / "variables.index").write_bytes(b"garbage")
    with pytest.raises(UserError, match="cannot be loaded as a model of this pipeline") as caught:
        predict(["a.jpg"], tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ask", [find_model, ModelSource])
def test_a_bucket_that_cannot_be_reached_is_told_in_one_line(
    ask: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> bool:
        raise tf.errors.FailedPreconditionError(None, None, "Could not resolve host\n\t when reading")

    monkeypatch.setattr(tf.io.gfile, "exists", fail)
    with pytest.raises(UserError, match="--model gs://b/m: cannot be read: Could not resolve host when reading; check"):
        ask("gs://b/m")


def test_only_numbers_are_versions_and_the_highest_is_the_newest(tmp_path: Path) -> None:
    for name in ("9", "10", "rolled-back-11", "\N{SUPERSCRIPT TWO}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"")
    (tmp_path / "12").mkdir()  # not whole
    assert find_model(f"{tmp_path}/") == str(tmp_path / "10")


def test_what_is_no_saved_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(UserError, match="cannot be loaded as a model of this pipeline") as caught:
        predict(["a.jpg"], tmp_path)
    assert "\n" not in str(caught.value)


def test_an_image_of_16_bits_is_read_with_the_bit_depth_of_the_model(tmp_path: Path) -> None:
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        brightness = tf.map_fn(
            lambda one: tf.reduce_mean(tf.cast(decode_image(one), tf.float32)) / 255,
            image_bytes,
            fn_output_signature=tf.float32,
        )
        return {"labels": tf.fill([tf.size(brightness), 1], "bright"), "probabilities": brightness[:, None]}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    image = tmp_path / "grey.png"
    image.write_bytes(encode(np.full((4, 6), 0xCC0, np.uint16), "PNG"))
    manifest = Manifest(backbone="vgg16", learn_statistics=False, image_size=32, classes=("bright",), versions={})
    for bit_depth, brightness in ((12, 0xCC), (16, 0x0C)):
        write_manifest(str(tmp_path / "model"), manifest.model_copy(update={"bit_depth": bit_depth}))
        (answer,) = predict([str(image)], tmp_path / "model")
        assert answer["probability"] == pytest.approx(brightness / 255)
