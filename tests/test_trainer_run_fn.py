"""The Trainer as TFX runs it: what it exports, what it records, what it does not touch."""

import contextlib
import hashlib
import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tfx.utils import import_utils, path_utils

from components.exported_model.decision import decide_always
from components.exported_model.manifest import MANIFEST_FILE, PROJECT_VERSION, Manifest, read_classes, read_manifest
from components.lane import installed_lane
from components.trainer import TRAINING_FILE, attempts, precision, run_fn, training
from components.trainer.assembly import check_averages
from components.trainer.backbones import BACKBONES
from components.trainer.devices import check_batch
from components.trainer.model import ImageClassifier, make_model
from components.trainer.run_fn import HISTORY_FILE
from components.trainer.settings import TrainerSettings
from components.trainer.strategy import describe_strategy, make_strategy
from components.trainer.warm_start import plan_warm_start
from components.trainer.weights import WEIGHTS_DIR_KEY, keep_imagenet
from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, unpack_images
from data.errors import UserError
from data.image_hashes import (
    TRAINING_IMAGES_FILE,
    make_image_hashes,
    read_image_hashes,
    read_split_hashes,
    write_image_hashes,
)
from pipeline.predict import predict
from tests.images import make_bmp, make_gif, make_jpeg, make_png
from tests.tiny_training import make_model as make_tiny_model
from tests.trainer_run import CLASSES, SETTINGS, make_images, read_weights, run_trainer
from tests.transform_run import BIT_DEPTH, make_example, read_transformed


@pytest.fixture(scope="module")
def root(transformed: Path, narrow_vgg16: None) -> Path:
    return transformed


@pytest.fixture(scope="module")
def output(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trainer")
    run_trainer(root, output, SETTINGS)
    return output


@pytest.fixture(scope="module")
def model(output: Path) -> Any:
    return tf.saved_model.load(path_utils.serving_model_dir(str(output / "model")))


def compute_reference(model: Any, images: tf.Tensor) -> np.ndarray:
    """Returns float32 probabilities of a Keras model that has the exported weights."""
    reference = make_model(len(CLASSES), 32, dropout=0.0, precision="float32")
    for variable in reference.weights:
        variable.assign(model.weights[variable.name.partition(":")[0].replace("/", "_")])
    # As a graph: eagerly, TensorFlow does not fuse convolution and bias and so rounds elsewhere.
    forward = tf.function(lambda images: tf.nn.softmax(reference(images, training=False)), autograph=False)
    return forward(images).numpy()


def test_transform_features_are_what_training_read(root: Path, model: Any) -> None:
    rows = read_transformed(root, "train")
    examples = tf.constant([make_example(encoded, label, "") for encoded, label in make_images(30, seed=0)])
    transformed = model.signatures["transform_features"](examples=examples)
    assert transformed[TRANSFORMED_IMAGE_KEY].numpy().tolist() == [row[TRANSFORMED_IMAGE_KEY] for row in rows]
    assert transformed[TRANSFORMED_LABEL_KEY].numpy().tolist() == [row[TRANSFORMED_LABEL_KEY] for row in rows]


def test_raw_bytes_are_served_as_transform_and_model_see_them(root: Path, model: Any) -> None:
    packed = tf.constant([row[TRANSFORMED_IMAGE_KEY] for row in read_transformed(root, "train")])
    expected = compute_reference(model, unpack_images(packed, 32))
    served = model.signatures["serving_default"](
        image_bytes=tf.constant([encoded for encoded, _ in make_images(30, seed=0)])
    )
    order = np.argsort(-expected, axis=1)[:, :5]
    # Same float32 operations: only how threads share the sums of a convolution may differ.
    np.testing.assert_allclose(served["probabilities"], np.take_along_axis(expected, order, 1), rtol=1e-5)
    assert served["labels"].numpy().tolist() == [[CLASSES[i].encode() for i in row] for row in order]


def test_both_signatures_give_the_same_probabilities(model: Any) -> None:
    images = make_images(7, seed=3)
    served = model.signatures["serving_default"](image_bytes=tf.constant([encoded for encoded, _ in images]))
    examples = tf.constant([make_example(encoded, label, "") for encoded, label in images])
    probabilities = model.signatures["serving_examples"](examples=examples)["probabilities"].numpy()
    assert probabilities.shape == (7, len(CLASSES))
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(served["probabilities"], -np.sort(-probabilities, axis=1)[:, :5], rtol=1e-5)


def test_probabilities_do_not_need_a_label(model: Any) -> None:
    image = make_png()
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    example = tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()
    assert model.signatures["serving_examples"](examples=tf.constant([example]))["probabilities"].shape == (1, 6)


def test_images_of_any_size_and_format_are_served_together(model: Any) -> None:
    images = [make_jpeg(), make_png(), make_gif(), make_bmp()]
    served = model.signatures["serving_default"](image_bytes=tf.constant(images))
    assert served["labels"].shape == served["probabilities"].shape == (4, 5)
    assert served["labels"].dtype == tf.string
    assert served["probabilities"].dtype == tf.float32


def test_the_export_is_a_plain_saved_model(output: Path) -> None:
    folder = Path(path_utils.serving_model_dir(str(output / "model")))
    assert not (folder / "keras_metadata.pb").exists()
    names = dict(tf.train.list_variables(str(folder / "variables" / "variables")))
    assert names["weights/block1_conv1_kernel/.ATTRIBUTES/VARIABLE_VALUE"] == [3, 3, 3, 8]
    assert not [name for name in names if "optimizer" in name]


def test_the_model_says_what_it_is(output: Path) -> None:
    folder = path_utils.serving_model_dir(str(output / "model"))
    versions = {"project": PROJECT_VERSION, "lane": installed_lane()}
    versions |= {"tensorflow": tf.__version__, "tf_keras": tf_keras.__version__}
    assert read_manifest(folder) == Manifest(
        backbone="vgg16",
        learn_statistics=True,
        pooling="last",
        image_size=32,
        classes=CLASSES,
        weights="none",
        weights_sha256=None,
        bit_depth=BIT_DEPTH,
        decision=decide_always(CLASSES),
        versions=versions,
    )


def test_a_model_of_before_the_manifest_is_read_as_before(root: Path, output: Path, tmp_path: Path) -> None:
    new = Path(path_utils.serving_model_dir(str(output / "model")))
    old = Path(path_utils.serving_model_dir(str(shutil.copytree(output / "model", tmp_path / "old"))))
    (old / MANIFEST_FILE).unlink()
    origin = {"backbone": "vgg16", "learn_statistics": True, "pooling": "last"}
    (tmp_path / "old" / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    assert read_manifest(str(old)) is None
    assert read_classes(str(old)) == read_classes(str(new)) == CLASSES
    with_manifest, without = (
        plan_warm_start(str(model), str(root / "transformed"), "vgg16", CLASSES) for model in (new, old)
    )
    assert with_manifest.applies
    assert without == replace(with_manifest, base=str(tmp_path / "old"))
    (tmp_path / "a.png").write_bytes(make_png())
    assert predict([str(tmp_path / "a.png")], old) == predict([str(tmp_path / "a.png")], new)


def test_the_training_is_recorded(output: Path) -> None:
    record = json.loads((output / "model_run" / TRAINING_FILE).read_text())
    assert [(epoch["phase"], epoch["epoch"]) for epoch in record["history"]] == [("head", 1), ("fine-tune", 1)]
    assert record["best"] == min(record["history"], key=lambda epoch: epoch["eval_loss"])
    assert record["weights"] == {"kind": "none", "sha256": None}
    assert record["warm_start"] is None
    assert record["precision"] == "bfloat16"
    assert (record["precision_choice"]["name"], record["precision_choice"]["how"]) == ("bfloat16", "setting")
    assert record["settings"]["batch_size"] == 8
    assert record["versions"]["tensorflow"] == tf.__version__
    assert not (output / "model_run" / "resume").exists()  # nothing is left to go on with


def test_the_history_is_a_table_too(output: Path) -> None:
    rows = (output / "model_run" / HISTORY_FILE).read_text().splitlines()
    assert rows[0] == "phase,epoch,loss,accuracy,eval_loss,eval_accuracy,learning_rate,seconds"
    assert [row.split(",")[:2] for row in rows[1:]] == [["head", "1"], ["fine-tune", "1"]]


def test_the_exported_weights_are_those_of_the_best_epoch(output: Path, model: Any) -> None:
    checkpoint = tf.train.load_checkpoint(str(output / "model_run" / "checkpoints" / "best"))
    kernel, head_bias = (
        checkpoint.get_tensor(f"{number}/.ATTRIBUTES/VARIABLE_VALUE") for number in (0, len(model.weights) - 1)
    )
    np.testing.assert_array_equal(model.weights["block1_conv1_kernel"], kernel)
    np.testing.assert_array_equal(model.weights["head_bias"], head_bias)


def test_the_precision_policy_is_left_as_it_was(output: Path) -> None:
    assert tf_keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_training(root: Path, output: Path, tmp_path: Path) -> None:
    run_trainer(root, tmp_path, SETTINGS)
    first, second = (
        json.loads((folder / "model_run" / TRAINING_FILE).read_text())["history"] for folder in (output, tmp_path)
    )
    # Threads add up gradients in no fixed order, and bfloat16 rounds what they add.
    assert [epoch["loss"] for epoch in second] == pytest.approx([epoch["loss"] for epoch in first], rel=1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("whole_vgg16")
def test_a_killed_run_of_vgg16_ends_with_the_same_bits(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **SETTINGS,
        "deterministic": True,
        "head_epochs": 2,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "ema_momentum": 0.9,
        "layer_decay": 0.7,
        "random_flip": True,
        "trivial_augment": 1.0,
        "cutmix_alpha": 1.0,
        "checkpoint_every_steps": 1,
        "steps_per_execution": 1,  # `auto` may go past the steps that are killed
    }
    expected = read_weights(run_trainer(root, tmp_path / "undisturbed", settings))

    def report_step(phase: Any, epoch: int, totals: Any, completed: int, total: Any) -> None:
        if (phase.name, epoch, completed) == place:
            raise InterruptedError

    resumed_from: list[str] = []
    read = training.read_variables
    for place in (("head", 1, 3), ("fine-tune", 0, 2), None):
        monkeypatch.setattr(training, "report_step", report_step)
        monkeypatch.setattr(training, "read_variables", lambda v, path: resumed_from.append(path) or read(v, path))
        with contextlib.nullcontext() if place is None else pytest.raises(InterruptedError):
            # A new folder for each execution, as TFX gives.
            exported = run_trainer(root, tmp_path / f"{place}", settings, checkpoint_dir=str(tmp_path / "resume"))
    assert [Path(path).name for path in resumed_from if "step-" in path] == ["step-6-0-1-2", "step-9-1-0-1"]
    found = read_weights(exported)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert not list((tmp_path / "resume").iterdir())


def test_devices_and_arithmetic_tell_trainings_apart(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's machine does not, so that what of it changes the result must."""

    class FoundError(Exception):
        pass

    def open_checkpoint_dir(_: str, custom_config: dict[str, Any], *__: Any) -> None:
        raise FoundError(custom_config)

    with monkeypatch.context() as patched:
        patched.setattr(attempts, "open_checkpoint_dir", open_checkpoint_dir)  # TFX reloads who imports it
        with pytest.raises(FoundError) as found:
            run_trainer(root, tmp_path, {**SETTINGS, "precision": "auto"}, checkpoint_dir=str(tmp_path / "resume"))
    importlib.reload(run_fn)
    (custom_config,) = found.value.args
    assert custom_config["devices"] == describe_strategy(make_strategy())
    assert custom_config["trainer"]["precision"] == "auto"  # what it came to is in the folder, for who goes on
    assert "precision" not in custom_config


@pytest.mark.slow
def test_a_resumed_run_keeps_the_arithmetic_of_the_killed_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever would be chosen now, on another machine say."""

    def report_step(_: Any, __: int, ___: Any, completed: int, ____: Any) -> None:
        if completed == 2:
            raise InterruptedError

    settings = {**SETTINGS, "precision": "auto", "fine_tune_blocks": 1, "head_epochs": 0, "checkpoint_every_steps": 1}
    with monkeypatch.context() as patched:
        epyc = precision.Cpu("AuthenticAMD", "EPYC", frozenset({"avx512_bf16"}))
        patched.setattr(precision, "read_cpu", lambda _: epyc)
        patched.setattr(training, "report_step", report_step)
        with pytest.raises(InterruptedError):
            run_trainer(root, tmp_path / "killed", settings, checkpoint_dir=str(tmp_path / "resume"))
    monkeypatch.setattr(precision, "read_cpu", lambda _: precision.Cpu("GenuineIntel"))
    assert precision.choose_precision("auto", make_strategy()) == precision.PrecisionChoice("float32", "table")
    run_trainer(root, tmp_path / "resumed", settings, checkpoint_dir=str(tmp_path / "resume"))
    record = json.loads((tmp_path / "resumed" / "model_run" / TRAINING_FILE).read_text())
    choice = record["precision_choice"]
    assert choice["how"] == "saved"
    assert record["precision"] == choice["name"] == "bfloat16"
    assert choice["kernel_gradient"]


def test_imagenet_s_weights_come_from_the_mirror_where_the_machine_has_none(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Vertex AI's container; a folder stands for a bucket."""
    saved = tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    saved.save_weights(tmp_path / "keras.h5")
    sha256 = hashlib.sha256((tmp_path / "keras.h5").read_bytes()).hexdigest()
    spec = replace(BACKBONES["vgg16"], weights_url="https://keras.invalid/of/keras.h5", weights_hash=f"sha256:{sha256}")
    monkeypatch.setitem(BACKBONES, "vgg16", spec)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    keep_imagenet("vgg16", f"file://{tmp_path}", f"file://{tmp_path}/kept")
    shutil.rmtree(tmp_path / "home")  # of the container of WeightsMirror
    settings = {**SETTINGS, "weights": "imagenet", "fine_tune_epochs": 0}
    exported = run_trainer(root, tmp_path / "out", settings, **{WEIGHTS_DIR_KEY: f"file://{tmp_path}/kept"})
    kernel = read_weights(exported)["block4_conv2_kernel"]
    np.testing.assert_array_equal(kernel, saved.get_layer("block4_conv2").kernel)
    record = json.loads((tmp_path / "out" / "model_run" / TRAINING_FILE).read_text())
    assert record["weights"] == {"kind": "imagenet", "sha256": sha256}


def test_weights_of_a_file_are_trained_on(root: Path, tmp_path: Path) -> None:
    saved = tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    saved.save_weights(tmp_path / "vgg16.h5")
    settings = {**SETTINGS, "weights": str(tmp_path / "vgg16.h5"), "fine_tune_epochs": 0}
    saved_model = run_trainer(root, tmp_path, settings)
    kernel = read_weights(saved_model)["block4_conv2_kernel"]
    np.testing.assert_array_equal(kernel, saved.get_layer("block4_conv2").kernel)
    record = json.loads((tmp_path / "model_run" / TRAINING_FILE).read_text())
    assert record["weights"]["kind"] == str(tmp_path / "vgg16.h5")
    assert len(record["weights"]["sha256"]) == 64
    manifest = read_manifest(str(saved_model))
    assert (manifest.weights, manifest.weights_sha256) == ("file", record["weights"]["sha256"])
    assert str(tmp_path) not in (saved_model / MANIFEST_FILE).read_text(encoding="utf-8")


def warm_start(root: Path, tmp_path: Path, base: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Trains a head that cannot move on the base's backbone, and returns the weights and the record."""
    settings = {**SETTINGS, "warm_start": "blessed", "fine_tune_epochs": 0, "head_learning_rate": 1e-12, "seed": 5}
    weights = read_weights(run_trainer(root, tmp_path, settings, base))
    return weights, json.loads((tmp_path / "model_run" / TRAINING_FILE).read_text())["warm_start"]


def test_a_warm_start_goes_on_from_the_base(root: Path, output: Path, model: Any, tmp_path: Path) -> None:
    warm, record = warm_start(root, tmp_path, output / "model")
    for name, variable in model.weights.items():
        # 1e-12 a step is below what float32 resolves.
        np.testing.assert_allclose(warm[name], variable, rtol=0, atol=1e-9)
    assert (record["base"], record["refused"]) == (str(output / "model"), None)
    assert record["kept"] == CLASSES
    assert read_manifest(path_utils.serving_model_dir(str(tmp_path / "model"))).weights == "warm start"
    assert read_image_hashes(str(tmp_path / "model" / TRAINING_IMAGES_FILE)).tolist() == trained_images()


def test_a_base_that_has_learned_todays_test_images_is_not_gone_on_from(
    root: Path, output: Path, model: Any, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(output / "model", base)
    (leaked, *_) = read_split_hashes(str(root / "transformed"))["test"]
    write_image_hashes(np.array([leaked], np.uint64), str(base / TRAINING_IMAGES_FILE))
    cold, record = warm_start(root, tmp_path, base)
    assert np.abs(cold["block1_conv1_kernel"] - model.weights["block1_conv1_kernel"].numpy()).max() > 0
    assert "1 of 7 test images trained it" in record["refused"]
    assert record["kept"] == []
    assert read_image_hashes(str(tmp_path / "model" / TRAINING_IMAGES_FILE)).tolist() == trained_images()


def trained_images() -> list[int]:
    """The hashes of train and eval, as a model records them."""
    images = [*make_images(30, seed=0), *make_images(12, seed=1)]
    return make_image_hashes(hashlib.sha256(encoded).hexdigest() for encoded, _ in images).tolist()


def test_a_batch_that_replicas_cannot_share_is_refused() -> None:
    check_batch(96, 8)
    with pytest.raises(UserError, match="is 100, not a multiple of the 8 replicas; use 96 or 104"):
        check_batch(100, 8)
    with pytest.raises(UserError, match=r"use 8$"):
        check_batch(3, 8)


def test_averaged_weights_with_learned_statistics_are_refused() -> None:
    settings = TrainerSettings(backbone="mobilenetv3-small", ema_momentum=0.99, fine_tune_blocks=4)
    pixels, images = tf_keras.Input([4]), tf_keras.Input([4])
    normalised = tf_keras.Model(pixels, tf_keras.layers.BatchNormalization()(pixels), name="backbone")
    model = ImageClassifier(images, tf_keras.layers.Dense(2, name="head")(normalised(images)))
    with pytest.raises(UserError, match=r"^trainer\.ema_momentum is 0\.99, but mobilenetv3-small .* to null"):
        check_averages(settings, model)
    check_averages(settings, make_tiny_model(backbone=True))
    check_averages(settings.model_copy(update={"ema_momentum": None}), model)


def test_tfx_reloads_the_module() -> None:
    for _ in range(2):
        import_utils.import_func_from_module("components.trainer.run_fn", "run_fn")


def test_the_vocabulary_orders_the_probabilities(root: Path) -> None:
    names = tft.TFTransformOutput(str(root / "graph")).vocabulary_by_name("label")
    assert [name.decode() for name in names] == CLASSES
