"""Predict refuses what is no model of this pipeline; its answers are tested at the end of the end-to-end story."""

from pathlib import Path

import pytest
import tensorflow as tf

from data.errors import UserError
from pipeline.predict import predict


def test_a_model_with_another_signature_is_refused_in_one_line(tmp_path: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.double})
    with pytest.raises(UserError, match="its serving_default does not map image_bytes to labels") as caught:
        predict(["a.jpg"], tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_saved_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(UserError, match="cannot be loaded as a model of this pipeline") as caught:
        predict(["a.jpg"], tmp_path)
    assert "\n" not in str(caught.value)
