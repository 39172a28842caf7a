"""An export that serves what was trained is blessed; each way to break it is found, and told by its name."""

import copy
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tfx.types import standard_artifacts

from components.exported_model.decision import DecisionRule
from components.exported_model.manifest import MANIFEST_FILE, Manifest, read_manifest, write_manifest
from components.exported_model.weights import read_parts
from components.serving_validator import trial
from components.serving_validator.checks import ProbeJudge
from components.serving_validator.component import ServingValidator_Executor as Executor
from components.serving_validator.component import describe
from components.serving_validator.findings import FINDINGS_FILE, Finding
from components.serving_validator.fresh_process import Answer, Answers, FreshProcess
from components.serving_validator.probe import main as answer_calls
from components.serving_validator.probes import make_example, make_probes
from components.serving_validator.reference import Reference
from components.serving_validator.settings import ServingValidatorSettings
from components.trainer.backbones import BACKBONES
from components.trainer.export import ServingModule, export_model
from components.trainer.known_images import KNOWN_PARTS, KnownImages, fit_known_images
from components.trainer.model import make_model
from components.trainer.transform_graph import TransformGraph
from components.transform.features import TRANSFORMED_IMAGE_KEY, unpack_images
from components.transform.settings import TransformSettings
from data.decode import decode_image
from tests.images import encode, make_pixels
from tests.trainer_run import CLASSES
from tests.transform_run import SPLITS, make_artifact

SIZE = 32
BACKBONE = "vgg16"


@dataclass(frozen=True)
class Trained:
    """What the pipeline has before the export: Transform's folders and a model."""

    root: Path
    transform_output: tft.TFTransformOutput
    transform_graph: TransformGraph
    model: Any


@pytest.fixture(scope="module")
def trained(transformed: Path, narrow_vgg16: None) -> Trained:
    tf_keras.utils.set_random_seed(1)
    model = make_model(6, SIZE, 0.0, "float32", BACKBONE)
    transform_output = tft.TFTransformOutput(str(transformed / "graph"))
    return Trained(transformed, transform_output, TransformGraph(transform_output), model)


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact export in `Format-Serving`."""
    root = tmp_path_factory.mktemp("model")
    export_model(
        trained.model, trained.transform_output, TransformSettings(image_size=SIZE), str(root / "Format-Serving")
    )
    return root


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the model loaded in this process, by the same file: a process of its own imports TensorFlow, for seconds.

    It cannot show that nothing of this project helps the model; the tests of what is intact and of what ends the
    process have one.
    """

    class Here:
        returncode = 0

        def __init__(self, folder: Path) -> None:
            self._folder = folder

        def communicate(self, text: str, **_: Any) -> None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(text))
            answer_calls(self._folder)

    @contextmanager
    def start(saved_model_path: str) -> Iterator[FreshProcess]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model").symlink_to(saved_model_path)
            yield FreshProcess(Path(folder), Here(Path(folder)))  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "start_fresh_process", start)
    monkeypatch.setattr(trial, "_LATENCY_CALLS", 2)


@pytest.fixture(scope="module")
def whole_reference(trained: Trained, exported: Path) -> Reference:
    saved_model, graph = str(exported / "Format-Serving"), str(trained.root / "graph")
    manifest = read_manifest(saved_model)
    assert manifest is not None
    return Reference(saved_model, manifest, graph)


@pytest.fixture
def one_reference(whole_reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds what the answers must be once: all broken exports here hold the same weights and the same graph."""

    def make(saved_model_path: str, manifest: Manifest, transform_graph_uri: str) -> Reference:
        found = copy.copy(whole_reference)
        parts = read_parts(saved_model_path, "known", KNOWN_PARTS)
        found.known = KnownImages(**parts) if parts else None
        return found

    monkeypatch.setattr(trial, "Reference", make)


def validate(trained: Trained, model_dir: Path, **settings: Any) -> tuple[int, dict[str, Any]]:
    """Runs the executor on an export in `model_dir/Format-Serving`; returns the verdict and what is in the blessing."""
    blessing = make_artifact(standard_artifacts.InfraBlessing, model_dir / "blessing")
    Executor().Do(
        {
            "model": [make_artifact(standard_artifacts.Model, model_dir)],
            "examples": [make_artifact(standard_artifacts.Examples, trained.root / "examples", SPLITS)],
            "transform_graph": [make_artifact(standard_artifacts.TransformGraph, trained.root / "graph")],
        },
        {"blessing": [blessing]},
        {"settings": ServingValidatorSettings(**settings).model_dump_json(), "code_hash": "0"},
    )
    found = json.loads((model_dir / "blessing" / FINDINGS_FILE).read_text(encoding="utf-8"))
    return blessing.get_int_custom_property("blessed"), found


def failed(found: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["message"] for finding in found["findings"] if not finding["passed"]}


def test_an_intact_export_is_blessed(
    trained: Trained, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process must find neither this project nor anything else that its caller's environment names.
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "tensorflow.py").write_text("raise SystemExit('an environment leaked in')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "poison"))
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    blessed, found = validate(trained, tmp_path)
    assert failed(found) == {}
    assert blessed == 1
    assert (tmp_path / "blessing" / "INFRA_BLESSED").exists()
    assert [finding["check"] for finding in found["findings"]] == [
        "size",
        "loads",
        "signatures",
        "manifest",
        "vocabulary",
        "transform",
        "answers",
        "labels",
        "probabilities",
        "formats",
        "originals",
        "garbage",
        "pictures",
        "pixels",
        "explain",
        "decision",
        "unknown_score",
        "colour_order",
        "normalisation",
        "latency",
    ]
    messages = {finding["check"]: finding["message"] for finding in found["findings"]}
    assert "batches of 1, 2, 33" in messages["answers"]
    assert "greyscale JPEG" in messages["formats"]
    assert messages["originals"] == "an EXIF-rotated JPEG, a WebP, a 16-bit PNG"
    assert "blue, green, red" in messages["colour_order"]
    assert "mean 103.939 116.779 123.68" in messages["normalisation"]
    assert found["measured"]["latency_p95_ms"] >= found["measured"]["latency_p50_ms"] > 0
    weights = (tmp_path / "Format-Serving" / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert weights < found["measured"]["model_mb"] * 1e6 < weights + 1e6


class BrokenModule(ServingModule):
    """Other probabilities from the same weights: `logits` of images takes the place of the model."""

    logits: Callable[[tf.Tensor], tf.Tensor]

    def _predict(self, features: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        packed = self.transform_graph.apply(features)[TRANSFORMED_IMAGE_KEY]
        logits = self.logits(unpack_images(packed, self._transform.image_size))
        return tf.nn.softmax(logits), logits


def layers(model: Any, pixels: tf.Tensor) -> tf.Tensor:
    return model.get_layer("head")(model.get_layer("backbone")(pixels, training=False))


def swap_channels(model: Any, images: tf.Tensor) -> tf.Tensor:
    return model(images[..., ::-1], training=False)


def forget_mean(model: Any, images: tf.Tensor) -> tf.Tensor:
    return layers(model, tf.cast(images, tf.float32)[..., ::-1])


def overflow_float16(model: Any, images: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(images, tf.float32)[..., ::-1] - tf.constant(BACKBONES[BACKBONE].preprocessing.mean)
    features = tf.cast(model.get_layer("backbone")(pixels, training=False), tf.float16)
    return model.get_layer("head")(tf.cast(features * 60_000 * 60_000, tf.float32) / 60_000 / 60_000)


class WronglyResizing(ServingModule):
    """Decodes as it should and resizes by hand, as many servers do: no anti-aliasing, cut and not rounded."""

    def _predict(self, features: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.map_fn(
            lambda one: tf.cast(tf.image.resize(decode_image(one), [SIZE, SIZE]), tf.uint8),
            tf.reshape(next(iter(features.values())), [-1]),
            fn_output_signature=tf.TensorSpec([SIZE, SIZE, 3], tf.uint8),
        )
        embeddings = self._embed(images)
        return self._classify(embeddings), embeddings


BROKEN_SIGNATURES: dict[str, dict[str, Callable[..., Any] | None]] = {
    "mirrored, turned and too sure": {
        "resize_picture": lambda whole, sent: {"pixels": whole(sent)["pixels"][:, ::-1]},
        "explain": lambda whole, sent: {
            key: tf.transpose(value, [0, 2, 1]) if key == "evidence" else value for key, value in whole(sent).items()
        },
        "serving_default": lambda whole, sent: {**whole(sent), "decision": whole(sent)["labels"][:, 0]},
    },
    "other embed_examples": {
        "embed_examples": lambda whole, sent: {
            key: values[:, ::-1] if len(values.shape) > 1 else values for key, values in whole(sent).items()
        },
    },
    "in BGR, knowing all and missing one": {
        "serving_picture": lambda whole, sent: whole(sent[..., ::-1]),
        "serving_pixels": lambda whole, sent: whole(sent[..., ::-1]),
        "serving_default": lambda whole, sent: {**whole(sent), "unknown_score": 0.0 * whole(sent)["unknown_score"]},
        "serving_examples": None,
    },
}
"""What is wrong -> signature to what it answers in place of the whole one; None of one that is not there."""


def known_images(trained: Trained) -> KnownImages:
    random = np.random.default_rng(0)
    images = np.stack([make_pixels(number % 6, SIZE, random) for number in range(60)])
    embed = tf_keras.Model(trained.model.input, trained.model.get_layer("head").input)
    embeddings = embed(images).numpy()
    fitted = fit_known_images((embeddings, np.arange(60) % 6), embeddings[:0], 6, [embeddings.shape[1]], roots=False)
    assert fitted is not None
    return fitted.scaled(0.05)


def export_broken(trained: Trained, folder: Path, how: str) -> None:
    broken = {"swapped channels": swap_channels, "missing mean": forget_mean, "float16": overflow_float16}.get(how)
    classes = [name.encode() for name in (reversed(CLASSES) if how == "shuffled vocabulary" else CLASSES)]
    kind = BrokenModule if broken else WronglyResizing if how == "wrong resize" else ServingModule
    rule = DecisionRule(thresholds=(0.17,) * 6, refuse_unknown=True)
    graph, settings = trained.transform_graph, TransformSettings(image_size=SIZE)
    module = kind(trained.model, graph, classes, settings, rule, None if broken else known_images(trained))
    if broken:
        module.logits = lambda images: broken(trained.model, images)
    signatures = module.make_signatures()
    for name, break_it in BROKEN_SIGNATURES.get(how, {}).items():
        whole = signatures.pop(name)
        if break_it:
            signatures[name] = tf.function(
                lambda sent, whole=whole, break_it=break_it: break_it(whole, sent),
                input_signature=whole.input_signature,
                autograph=False,
            )
    tf.saved_model.save(module, str(folder), signatures=signatures)
    manifest = Manifest(backbone=BACKBONE, learn_statistics=False, image_size=SIZE, classes=CLASSES, versions={})
    write_manifest(str(folder), manifest.model_copy(update={"decision": rule}))


@pytest.mark.parametrize(
    ("how", "checks", "messages"),
    [
        ("swapped channels", {"probabilities", "formats", "colour_order"}, ["as if red and blue were swapped"]),
        ("missing mean", {"probabilities", "formats", "normalisation"}, ["as if the mean were not subtracted"]),
        ("shuffled vocabulary", {"labels", "probabilities", "formats"}, ["of 1 images have another label"]),
        ("wrong resize", {"probabilities", "formats"}, ["from those computed apart"]),
        ("float16", {"answers", "formats"}, ["probabilities that are no finite numbers"]),
        ("other embed_examples", {"labels", "probabilities"}, ["have another label through embed_examples"]),
        (
            "mirrored, turned and too sure",
            {"pictures", "explain", "decision"},
            ["resize_picture: image 1 of batch 1, of 1 differs in "],
        ),
        (
            "in BGR, knowing all and missing one",
            {"pictures", "pixels", "unknown_score", "signatures"},
            ["is 0 of an image whose score is", "serving_examples is missing (there are embed_examples, explain, res"],
        ),
    ],
)
def test_a_broken_export_is_not_blessed_and_told_why(
    how: str, checks: set[str], messages: list[str], trained: Trained, here: None, one_reference: None, tmp_path: Path
) -> None:
    export_broken(trained, tmp_path / "Format-Serving", how)
    blessed, found = validate(trained, tmp_path, images=8)
    failures = failed(found)
    assert blessed == 0
    assert found["blessed"] is False
    assert checks <= set(failures)
    for message in messages:
        assert message in " ".join(failures.values())
    assert (tmp_path / "blessing" / "INFRA_NOT_BLESSED").exists()
    if how in BROKEN_SIGNATURES and how != "other embed_examples":
        assert set(failures) == checks
    if how == "wrong resize":
        assert not {"colour_order", "normalisation"} & set(failures)


@pytest.mark.parametrize("wrong_batch", [0, 2, 4])
def test_every_batch_is_judged(wrong_batch: int) -> None:
    random = np.random.default_rng(0)
    probes = make_probes([make_example(encode(make_pixels(0, 8, random), "PNG")) for _ in range(102)])
    batches = [probe for probe in probes if probe.check == "batches"]
    assert [len(probe.images) for probe in batches] == [1, 2, 33, 33, 33]
    expected, answers = {}, {}
    for number, probe in enumerate(batches):
        values = np.tile(np.float32([0.7, 0.2, 0.1]), (len(probe.images), 1))
        expected[probe.name] = values
        answers[probe.name, "serving_examples"] = Answer(
            {"probabilities": values[:, :: -1 if number == wrong_batch else 1]}
        )
    judge = ProbeJudge(CLASSES[:3], 1e-4, expected, Answers({"serving_examples": {}}, (), (), 1.0))
    findings = {finding.check: finding for finding in judge.judge(batches, answers)}
    assert not findings["labels"].passed
    assert not findings["probabilities"].passed


def test_what_is_too_slow_or_too_large_is_not_blessed_and_one_call_of_it_is_timed(
    trained: Trained,
    exported: Path,
    here: None,
    one_reference: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "_LATENCY_SECONDS", 0.0)  # Over before the warm-up is, as with 2 s a call.
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    blessed, found = validate(trained, tmp_path, images=1, max_latency_p95_ms=0.001, max_model_mb=1)
    assert blessed == 0
    assert set(failed(found)) == {"latency", "size"}
    bounds = {finding["check"]: finding["bound"] for finding in found["findings"] if not finding["passed"]}
    assert bounds == {"latency": 0.001, "size": 1.0}
    assert found["measured"]["latency_p50_ms"] > 0
    assert "of 1 calls" in found["findings"][-1]["message"]


def test_what_could_not_be_timed_is_not_told() -> None:
    assert describe([Finding("loads", True, "in 1 s")], {"model_mb": 58.9}) == ["1 checks of the export passed; 59 MB"]


def test_a_model_that_cannot_be_loaded_is_not_blessed(
    trained: Trained, exported: Path, one_reference: None, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    (tmp_path / "Format-Serving" / "saved_model.pb").write_bytes(os.urandom(1000))
    blessed, found = validate(trained, tmp_path)
    assert blessed == 0
    assert "exit status 1" in failed(found)["loads"]


def test_an_export_of_another_backbone_is_not_blessed(
    trained: Trained, exported: Path, here: None, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    saved_model = str(tmp_path / "Format-Serving")
    write_manifest(saved_model, read_manifest(saved_model).model_copy(update={"backbone": "vgg19"}))
    blessed, found = validate(trained, tmp_path)
    assert blessed == 0
    assert failed(found)["weights"].startswith("the weight block3_conv4_kernel is missing")


def test_an_export_without_a_true_manifest_is_not_blessed(
    trained: Trained, exported: Path, here: None, one_reference: None, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    saved_model = str(tmp_path / "Format-Serving")
    write_manifest(saved_model, read_manifest(saved_model).model_copy(update={"classes": tuple(reversed(CLASSES))}))
    blessed, found = validate(trained, tmp_path, images=1)
    assert blessed == 0
    assert failed(found) == {"manifest": "the order differs: class 0 is 'fox' and not 'ant'"}
    (tmp_path / "Format-Serving" / MANIFEST_FILE).unlink()
    blessed, found = validate(trained, tmp_path)
    assert blessed == 0
    assert failed(found) == {"manifest": f"it has no {MANIFEST_FILE}, which says what it is"}
