"""The whole Transform, run by TFX's executor; the label vocabulary; what the Trainer and serving read."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from pydantic import ValidationError
from tfx.utils import import_utils

from components.trainer.transform_graph import TransformGraph
from components.transform.features import (
    LABEL_VOCABULARY,
    TRANSFORMED_IMAGE_KEY,
    TRANSFORMED_LABEL_KEY,
    unpack_images,
)
from components.transform.label_vocabulary import _write_lines
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from data.decode import decode_image
from data.features import IMAGE_KEY, LABEL_KEY
from tests.images import make_bmp, make_gif, make_jpeg, make_png
from tests.transform_run import make_example, read_transformed, run_transform

SETTINGS = {"image_size": 32, "aspect": "crop", "resize_method": "bicubic"}
# "b" is the most frequent and "a" the rarest: an order by frequency is not this one. Bytes, not letters, order "Z".
IMAGES = {
    "train": [
        (make_jpeg(), "b"),
        (make_png(), "b"),
        (make_gif(), "b"),
        (make_bmp(), "Zürich"),
        (make_png(), "Zürich"),
        (make_jpeg(), "a"),
        (make_png(), "ü"),
    ],
    "eval": [(make_png(), "a"), (make_jpeg(), "ü")],
    "test": [(make_jpeg(), "b"), (make_png(), "only in test")],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transform whose schema leaves shapes open, so that features are sparse; the Trainer's tests fix them.

    It runs where a killed attempt has left something.
    """
    root = tmp_path_factory.mktemp("transform")
    for name in ("graph/transformed_metadata/old", "transformed/Split-train/old", "transformed/image_hashes-test.bin"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"old")
    run_transform(root, IMAGES, SETTINGS, feature_shape="")
    return root


@pytest.fixture
def output(root: Path) -> tft.TFTransformOutput:
    return tft.TFTransformOutput(str(root / "graph"))


def test_what_a_killed_attempt_left_is_replaced(root: Path) -> None:
    assert len(read_transformed(root, "train")) == len(IMAGES["train"])
    assert not list(root.rglob("old"))
    assert (root / "transformed" / "image_hashes-test.bin").read_bytes() != b"old"


def test_the_vocabulary_is_alphabetical(output: tft.TFTransformOutput) -> None:
    names = [name.decode() for name in output.vocabulary_by_name(LABEL_VOCABULARY)]
    assert names == ["Zürich", "a", "b", "ü"]


def test_labels_are_positions_in_the_vocabulary_and_unknown_ones_minus_1(root: Path) -> None:
    labels = {split: [row[TRANSFORMED_LABEL_KEY] for row in read_transformed(root, split)] for split in IMAGES}
    assert labels == {"train": [2, 2, 2, 0, 0, 1, 3], "eval": [1, 3], "test": [2, -1]}


@pytest.mark.parametrize("split", list(IMAGES))
def test_images_are_decoded_and_resized_by_the_one_function(root: Path, split: str) -> None:
    rows = read_transformed(root, split)
    assert len(rows) == len(IMAGES[split])
    for row, (encoded, _) in zip(rows, IMAGES[split], strict=True):
        expected = resize_image(decode_image(tf.constant(encoded)), TransformSettings(**SETTINGS))
        actual = unpack_images(tf.constant([row[TRANSFORMED_IMAGE_KEY]]), 32)[0]
        np.testing.assert_array_equal(actual, expected)


def test_the_graph_can_be_fed_with_the_image_alone(root: Path, output: tft.TFTransformOutput) -> None:
    graph = TransformGraph(output)
    encoded = tf.constant([encoded for encoded, _ in IMAGES["train"]])
    transformed = graph.apply({IMAGE_KEY: graph.as_raw_feature(IMAGE_KEY, encoded)})
    expected = [row[TRANSFORMED_IMAGE_KEY] for row in read_transformed(root, "train")]
    assert transformed[TRANSFORMED_IMAGE_KEY].numpy().tolist() == expected


def test_the_graph_reads_examples(root: Path, output: tft.TFTransformOutput) -> None:
    graph = TransformGraph(output)
    examples = tf.constant([make_example(encoded, label, "") for encoded, label in IMAGES["test"]])
    transformed = graph.apply(graph.parse(examples, [IMAGE_KEY, LABEL_KEY]))
    expected = read_transformed(root, "test")
    assert transformed[TRANSFORMED_LABEL_KEY].numpy().tolist() == [row[TRANSFORMED_LABEL_KEY] for row in expected]
    assert transformed[TRANSFORMED_IMAGE_KEY].numpy().tolist() == [row[TRANSFORMED_IMAGE_KEY] for row in expected]


@pytest.mark.parametrize("label", [b"", b"two\nlines", b"carriage\rreturn"])
def test_labels_that_a_text_file_cannot_hold_are_refused(tmp_path: Path, label: bytes) -> None:
    with pytest.raises(ValueError, match="is empty or holds a line break"):
        _write_lines([b"cat", label], str(tmp_path / "labels"))


def test_tfx_reloads_the_module() -> None:
    for _ in range(2):
        import_utils.import_func_from_module("components.transform.preprocessing", "preprocessing_fn")


def test_settings_survive_json() -> None:
    settings = TransformSettings(**SETTINGS)
    assert TransformSettings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings


def test_an_image_size_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        TransformSettings(image_size=0)
