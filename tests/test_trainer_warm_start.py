"""Warm start: when a base is used, which of its rows are kept, and what a model records of its own training."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.exported_model.manifest import MANIFEST_FILE, Manifest, write_manifest
from components.exported_model.weights import UnreadableWeights, read_weights, weight_key
from components.trainer.model import ImageClassifier
from components.trainer.warm_start import WarmStart, load_base, plan_warm_start, write_training_images
from data.image_hashes import (
    TRAINING_IMAGES_FILE,
    make_image_hashes,
    read_image_hashes,
    split_hashes_file,
    write_image_hashes,
)

BASE_CLASSES = ["ant", "bee", "cat"]


def make_classifier(class_count: int, seed: int) -> ImageClassifier:
    """A backbone of a dense layer, whose name has a dot, and BatchNorm; every weight is random."""
    tf_keras.utils.set_random_seed(seed)
    pixels = tf_keras.Input([4])
    features = tf_keras.layers.BatchNormalization(name="norm")(tf_keras.layers.Dense(5, name="block1.dense")(pixels))
    model = ImageClassifier(pixels, tf_keras.layers.Dense(class_count, name="head")(features))
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def hashes(names: str) -> np.ndarray:
    return make_image_hashes(hashlib.sha256(name.encode()).hexdigest() for name in names)


def write_splits(folder: Path, train: str, eval: str, test: str) -> str:
    folder.mkdir(exist_ok=True)
    for split, names in (("train", train), ("eval", eval), ("test", test)):
        write_image_hashes(hashes(names), str(folder / split_hashes_file(split)))
    return str(folder)


def trained_images(model_uri: Path) -> list[int] | None:
    found = read_image_hashes(str(model_uri / TRAINING_IMAGES_FILE))
    return None if found is None else found.tolist()


@pytest.fixture(scope="module")
def base_classifier() -> ImageClassifier:
    return make_classifier(len(BASE_CLASSES), seed=1)


@pytest.fixture
def base(base_classifier: ImageClassifier, tmp_path: Path) -> str:
    """A blessed SavedModel that the images a, b (train) and c (eval) trained."""
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "label").write_text("\n".join(BASE_CLASSES) + "\n", encoding="utf-8")
    module = tf.Module()
    module.weights = {weight_key(variable): variable for variable in base_classifier.weights}
    module.vocabulary = tf.saved_model.Asset(str(tmp_path / "vocabulary" / "label"))
    saved_model = tmp_path / "model" / "7" / "Format-Serving"
    tf.saved_model.save(module, str(saved_model))
    examples = write_splits(tmp_path / "first", "ab", "c", "d")
    write_manifest(
        str(saved_model),
        Manifest(backbone="vgg16", learn_statistics=True, image_size=32, classes=BASE_CLASSES, versions={}),
    )
    write_training_images(str(saved_model.parent), examples, WarmStart())
    return str(saved_model)


def plan(base: str | None, examples: str, classes: Sequence[str] = BASE_CLASSES, backbone: str = "vgg16") -> WarmStart:
    return plan_warm_start(base, examples, backbone, classes)


def test_rows_are_kept_by_name_and_new_ones_stay_as_initialised(base: str, base_classifier: ImageClassifier) -> None:
    classes = ["apple", "bee", "cow", "ant"]
    model = make_classifier(len(classes), seed=2)
    fresh_kernel, fresh_bias = model.get_layer("head").get_weights()
    load_base(model, base, classes)
    kernel, bias = model.get_layer("head").get_weights()
    base_kernel, base_bias = base_classifier.get_layer("head").get_weights()
    for row, name in enumerate(classes):
        known = name in BASE_CLASSES
        source = BASE_CLASSES.index(name) if known else row
        np.testing.assert_array_equal(kernel[:, row], (base_kernel if known else fresh_kernel)[:, source])
        assert bias[row] == (base_bias if known else fresh_bias)[source]
    for layer in ("block1.dense", "norm"):  # with the statistics of BatchNorm
        for found, expected in zip(
            model.get_layer(layer).get_weights(), base_classifier.get_layer(layer).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_what_is_kept_new_and_dropped_is_told(base: str, tmp_path: Path) -> None:
    warm_start = plan(base, write_splits(tmp_path / "now", "abe", "c", "df"), ["ant", "cat", "dog"])
    assert warm_start.applies
    assert warm_start.learn_statistics
    assert (warm_start.kept, warm_start.new, warm_start.dropped) == (("ant", "cat"), ("dog",), ("bee",))
    place = f"{tmp_path.name}/model/7"
    assert warm_start.describe() == f"from {place}: 2 of 3 classes kept, new: dog, dropped: bee"
    many = WarmStart("/x/Trainer/model/3", kept=("a",), new=tuple("bcdefgh"))
    assert many.describe() == "from Trainer/model/3: 1 of 8 classes kept, new: b, c, d, e, f, 2 more"


def test_a_base_of_before_the_manifest_is_gone_on_from_as_one_with_it(base: str, tmp_path: Path) -> None:
    examples, classes = write_splits(tmp_path / "now", "abe", "c", "df"), ["ant", "cat", "dog"]
    with_manifest = plan(base, examples, classes)
    models = [make_classifier(len(classes), seed=2) for _ in range(2)]
    load_base(models[0], base, classes)
    (Path(base) / MANIFEST_FILE).unlink()
    assert plan(base, examples, classes).refused == "it is not recorded which images trained it"
    origin = Path(base).parent / "origin.json"
    for pooling in ({}, {"pooling": "last"}):  # the oldest do not name it
        origin.write_text(json.dumps({"backbone": "vgg16", "learn_statistics": True, **pooling}), encoding="utf-8")
        assert plan(base, examples, classes) == with_manifest
    load_base(models[1], base, classes)
    for found, expected in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_weight_that_is_not_there_is_named(base: str, base_classifier: ImageClassifier) -> None:
    (kernel,) = read_weights(base, ["block1.dense_kernel"])
    np.testing.assert_array_equal(kernel, base_classifier.get_layer("block1.dense").kernel)
    with pytest.raises(UnreadableWeights, match="the weight block2_kernel is missing"):
        read_weights(base, ["head_kernel", "block2_kernel"])


def test_a_base_that_images_of_todays_test_trained_is_refused(base: str, tmp_path: Path) -> None:
    for leaked in "ac":  # one of its train, one of its eval
        warm_start = plan(base, write_splits(tmp_path / "now", "be", "f", f"dg{leaked}"))
        assert not warm_start.applies
        assert "model/7 refused: 1 of 3 test images trained it" in warm_start.describe()


def test_a_base_that_cannot_be_used_is_refused_with_the_reason(base: str, tmp_path: Path) -> None:
    examples = write_splits(tmp_path / "now", "ab", "c", "d")
    assert plan(base, examples, backbone="vgg19").refused == "its backbone is vgg16, and trainer.backbone is vgg19"
    assert "not recorded" in str(plan(base, str(tmp_path)).refused)
    (Path(base).parent / TRAINING_IMAGES_FILE).unlink()
    assert "not recorded" in str(plan(base, examples).refused)


def test_without_a_blessed_model_there_is_nothing_to_refuse(tmp_path: Path) -> None:
    warm_start = plan(None, str(tmp_path))
    assert not warm_start.applies
    assert warm_start.refused is None


def test_the_images_of_a_base_trained_what_goes_on_from_it_too(base: str, tmp_path: Path) -> None:
    examples = write_splits(tmp_path / "now", "e", "f", "g")
    for name, warm_start, expected in (
        ("cold", WarmStart(), "ef"),
        ("warm", plan(base, examples), "abcef"),
        ("refused", WarmStart(str(Path(base).parent), "for a reason"), "ef"),
    ):
        (tmp_path / name).mkdir()
        write_training_images(str(tmp_path / name), examples, warm_start)
        assert trained_images(tmp_path / name) == hashes(expected).tolist()


def test_a_model_of_unrecorded_images_records_none(tmp_path: Path) -> None:
    write_training_images(str(tmp_path), str(tmp_path), WarmStart())
    assert trained_images(tmp_path) is None
