"""Each backbone of the registry against tf_keras's own: address, preprocessing, layers, weights, and what is frozen.

Run at the smallest size with random weights; BatchNorm's statistics are random, too, so that they count.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras.src.utils import data_utils

from components.trainer.backbone_layers import backbone_shapes, iterate_layers, preprocess
from components.trainer.backbones import BACKBONES
from components.trainer.export import rebuild_in_float32
from components.trainer.model import (
    ImageClassifier,
    backbone_blocks,
    load_weights,
    make_model,
    set_trainable_blocks,
)
from components.trainer.optimizers import layer_depths
from tests.images import make_pixels
from tests.tiny_training import take_step

CLASSES = 3
# These take seconds to build: the slow tests have them. ResNet50V2 has a fast test of its own below.
LARGE = {"vgg19", "resnet50v2", "convnext-tiny", "efficientnetv2-b0", "efficientnetv2-s", "mobilenetv3-large"}


def mark_large(names: Any) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in names]


@dataclass(frozen=True)
class Case:
    """Keras's model, its weights in a file, where Keras would have downloaded them from, and ours with the weights."""

    name: str
    reference: tf_keras.Model
    path: str
    download: dict[str, str]
    model: ImageClassifier


def randomise(model: tf_keras.Model) -> None:
    """Gives every variable a value that shows in the features: Keras's initial ones do not.

    Offsets start at 0, ConvNeXt's scales at 1e-6, and kernels so small that MobileNetV3's features are all alike. The
    branches of EfficientNetV2-S, 40 of them, are halved: at full size they amplify the first rounding to bfloat16
    until it is all that is left.
    """
    random = np.random.default_rng(0)
    for variable in model.weights:
        shape = variable.shape
        if len(shape) == 1:
            around_one = re.search("gamma|variance", variable.name) is not None
            branch = 0.5 if len(model.weights) > 600 and re.search("project.*gamma", variable.name) else 1.0
            variable.assign(branch * random.uniform(0.5, 1.5, shape) if around_one else random.normal(0, 0.1, shape))
        else:
            inputs = np.prod(shape[:2] if "depthwise" in variable.name else shape[:-1])
            variable.assign(variable * (np.sqrt(2 / inputs) / np.std(variable)))


def make_reference(
    name: str, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> tuple[tf_keras.Model, dict[str, str]]:
    """Builds Keras's own as if with ImageNet's weights; returns what it would have downloaded."""
    download: dict[str, str] = {}

    def get_file(file_name: str, origin: str, cache_subdir: str, file_hash: str) -> str:
        download.update(file_name=file_name, origin=origin, file_hash=file_hash, cache_subdir=cache_subdir)
        return ""

    size = BACKBONES[name].min_image_size
    with monkeypatch.context() as patch:
        patch.setattr(data_utils, "get_file", get_file)
        patch.setattr(tf_keras.Model, "load_weights", lambda *_: None)
        construct = getattr(tf_keras.applications, BACKBONES[name].constructor)
        model = construct(include_top=False, weights="imagenet", input_shape=(size, size, 3), pooling="avg")
    return model, download


@pytest.fixture(scope="module", params=mark_large(BACKBONES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name = request.param
    with pytest.MonkeyPatch.context() as monkeypatch:
        reference, download = make_reference(name, monkeypatch)
    randomise(reference)
    path = str(tmp_path_factory.mktemp("weights") / "notop.h5")
    reference.save_weights(path)
    tf_keras.utils.set_random_seed(0)
    model = make_model(CLASSES, BACKBONES[name].min_image_size, dropout=0.0, precision="float32", backbone=name)
    load_weights(model, path)
    return Case(name, reference, path, download, model)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([make_pixels(number % CLASSES, 32, random) for number in range(6)])


def apply_keras_preprocessing(reference: tf_keras.Model, constructor: str, images: np.ndarray) -> np.ndarray:
    """Keras's `preprocess_input`, and the layers of the network that preprocess, where it has some."""
    module = sys.modules[getattr(tf_keras.applications, constructor).__module__]
    pixels = module.preprocess_input(images.astype(np.float32))
    for layer in reference.layers:
        if isinstance(layer, tf_keras.layers.Rescaling | tf_keras.layers.Normalization):
            pixels = layer(pixels)
    return np.asarray(pixels)


def test_address_and_checksum_are_keras_own(case: Case) -> None:
    spec = BACKBONES[case.name]
    assert spec.weights_url == case.download["origin"]
    assert spec.weights_hash.partition(":")[2] == case.download["file_hash"]
    assert spec.weights_hash.partition(":")[0] == {32: "md5", 64: "sha256"}[len(case.download["file_hash"])]
    # So that Keras and we share one cache.
    assert (case.download["cache_subdir"], case.download["file_name"]) == ("models", spec.weights_url.split("/")[-1])


def test_a_resnet_s_address_checksum_and_preprocessing_are_keras_own_without_building_it() -> None:
    spec, theirs = BACKBONES["resnet50v2"], sys.modules["tf_keras.src.applications.resnet"]
    assert spec.weights_url == f"{theirs.BASE_WEIGHTS_PATH}{spec.weights_file}"
    assert spec.weights_hash == f"md5:{theirs.WEIGHTS_HASHES['resnet50v2'][1]}"
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)[None]
    expected = tf_keras.applications.resnet_v2.preprocess_input(every_level.astype(np.float32))
    np.testing.assert_allclose(preprocess(tf.constant(every_level), spec.preprocessing), expected, rtol=0, atol=1e-6)


def test_preprocessing_is_keras_own(case: Case, images: np.ndarray) -> None:
    spec = BACKBONES[case.name]
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)[None]
    for pixels in (images, every_level):
        expected = apply_keras_preprocessing(case.reference, spec.constructor, pixels)
        # Theirs rounds 2 to 4 times in float32 on the way to values of up to 2.7, VGG's once to up to 152.
        tolerance = 0.0 if spec.constructor.startswith("VGG") else 1e-6
        np.testing.assert_allclose(
            preprocess(tf.constant(pixels), spec.preprocessing), expected, rtol=0, atol=tolerance
        )
        assert np.abs(expected).max() > 0.9


def test_weights_of_keras_own_file_give_keras_own_features(case: Case, images: np.ndarray) -> None:
    for saved, loaded in zip(case.reference.weights, case.model.get_layer("backbone").weights, strict=True):
        np.testing.assert_array_equal(saved, loaded)
    pixels = images.astype(np.float32)
    module = sys.modules[getattr(tf_keras.applications, BACKBONES[case.name].constructor).__module__]
    expected = case.reference(module.preprocess_input(pixels), training=False).numpy()
    features = tf_keras.Model(case.model.input, case.model.get_layer("dropout").input)(images).numpy()
    spread = expected.std(0).mean()
    assert spread > 1e-3 * np.abs(expected).mean()  # the images are told apart
    # Preprocessing and, in ConvNeXt, another kernel for the same sums: float32 rounds 7 digits, over 50 layers.
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).mean())


def test_every_layer_with_weights_is_in_one_block(case: Case) -> None:
    blocks = backbone_blocks(case.model)
    grouped = [layer.name for layers in blocks for layer in layers if layer.weights]
    layers = [layer.name for layer in iterate_layers(case.model.get_layer("backbone")) if layer.weights]
    assert sorted(grouped) == sorted(layers)
    assert all(any(layer.weights for layer in layers) for layers in blocks)


def test_depths_are_those_of_the_blocks(case: Case) -> None:
    count = len(BACKBONES[case.name].blocks)
    set_trainable_blocks(case.model, count)
    depths = layer_depths(case.model)
    network = case.model.get_layer("backbone").trainable_variables
    assert len(depths) == len(network)
    found = [depths[variable.ref()] for variable in network]
    assert found[0] == count
    assert found == sorted(found, reverse=True)
    assert set(found) == set(range(1, count + 1))


def test_names_of_exported_variables_are_unique_and_always_the_same(case: Case) -> None:
    names = [variable.name.partition(":")[0].replace("/", "_") for variable in case.model.weights]
    assert len(set(names)) == len(names)
    assert not [name for name in names if re.search(r"normalization_\d", name)]  # Keras's count of all layers so far


@pytest.mark.parametrize("blocks", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_step_changes_the_last_blocks_but_no_statistics(case: Case, images: np.ndarray, blocks: int) -> None:
    before = {variable.name: variable.numpy() for variable in case.model.weights}
    set_trainable_blocks(case.model, blocks)
    take_step(case.model, images, np.arange(6) % CLASSES, blocks)
    changed = {v.name for v in case.model.weights if not np.array_equal(v, before[v.name])}
    patterns = [re.compile(block) for block in (*BACKBONES[case.name].blocks[-blocks:], "head")]
    expected = {name for name in before if any(pattern.match(name.rpartition("/")[0]) for pattern in patterns)}
    for variable in case.model.weights:
        variable.assign(before[variable.name])
    assert changed == {name for name in expected if not name.rpartition("/")[2].startswith("moving_")}


def test_training_computes_what_inference_computes(case: Case, images: np.ndarray) -> None:
    """Neither BatchNorm nor stochastic depth knows that it is training, even where all blocks learn."""
    set_trainable_blocks(case.model, len(BACKBONES[case.name].blocks))
    np.testing.assert_array_equal(case.model(images, training=True), case.model(images, training=False))


def test_frozen_backbones_learn_nothing_and_free_ones_all_but_statistics(case: Case) -> None:
    set_trainable_blocks(case.model, len(BACKBONES[case.name].blocks))
    frozen = {variable.name for variable in case.model.non_trainable_weights}
    assert frozen == {v.name for v in case.model.weights if "/moving_" in v.name}
    set_trainable_blocks(case.model, 0)
    assert [variable.name for variable in case.model.trainable_weights] == ["head/kernel:0", "head/bias:0"]


@pytest.mark.parametrize(
    "name",
    [name if name == "vgg16" else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES],
)
def test_a_bfloat16_model_is_exported_in_float32(name: str, images: np.ndarray) -> None:
    size = BACKBONES[name].min_image_size
    tf_keras.utils.set_random_seed(1)
    model = make_model(len(images), size, dropout=0.5, precision="bfloat16", backbone=name)
    randomise(model)
    set_trainable_blocks(model, 2)
    rebuilt = rebuild_in_float32(model, len(images), size)
    assert {layer.compute_dtype for layer in iterate_layers(rebuilt) if layer.weights} == {"float32"}
    assert rebuilt.backbone_name == name
    for variable, expected in zip(rebuilt.weights, model.weights, strict=True):
        assert variable.name == expected.name
        np.testing.assert_array_equal(variable, expected)
    # A head that tells the images apart, as training would leave it: random logits are all but ties.
    features = tf_keras.Model(rebuilt.input, rebuilt.get_layer("dropout").input)(images).numpy()
    mean = features.mean(0)
    kernel = np.linalg.pinv(features - mean, rcond=0.05).astype(np.float32) * 10
    for classifier in (model, rebuilt):
        classifier.get_layer("head").set_weights([kernel, -mean @ kernel])
    logits = rebuilt(images, training=False).numpy()
    np.testing.assert_array_equal(logits.argmax(1), np.arange(len(images)))
    np.testing.assert_array_equal(model(images, training=False).numpy().argmax(1), logits.argmax(1))


@pytest.mark.parametrize("learn", [pytest.param(False, marks=pytest.mark.slow), True])
def test_only_random_backbones_learn_statistics_and_only_in_free_blocks(learn: bool, images: np.ndarray) -> None:
    model = make_model(CLASSES, 32, 0.5, "float32", "mobilenetv3-small", learn_statistics=learn)
    set_trainable_blocks(model, 1)
    before = {variable.name: variable.numpy() for variable in model.weights}
    take_step(model, images, np.arange(6) % CLASSES, blocks=1)
    statistics = [variable for variable in model.weights if "/moving_" in variable.name]
    assert len(statistics) == 68
    changed = [v.name for v in statistics if not np.array_equal(v, before[v.name])]
    last = re.compile(BACKBONES["mobilenetv3-small"].blocks[-1])
    assert changed == [v.name for v in statistics if learn and last.match(v.name.rpartition("/")[0])]
    assert not np.array_equal(model.get_layer("head").kernel, before["head/kernel:0"])


@pytest.mark.slow
def test_stochastic_depth_is_off_even_where_statistics_are_learned(images: np.ndarray) -> None:
    model = make_model(CLASSES, 32, 0.0, "float32", "efficientnetv2-b0", learn_statistics=True)
    set_trainable_blocks(model, 0)  # else the batch's statistics make the difference
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))


def test_shapes_are_those_of_the_file(case: Case) -> None:
    shapes = backbone_shapes(case.model.get_layer("backbone"))
    count = sum(int(np.prod(shape)) for layer in shapes.values() for shape in layer)
    assert count == case.reference.count_params()


def test_the_settings_know_the_backbones_without_tensorflow() -> None:
    code = (
        "import sys; from components.trainer.settings import TrainerSettings; from pipeline.config import load_config;"
        "print(TrainerSettings(backbone='convnext-tiny').backbone, 'tensorflow' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["convnext-tiny", "False"]
