"""Formats out of TensorFlow: really converted, and run by the client that users get."""

import ast
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import Artifact, standard_artifacts
from tfx.types.experimental.simple_artifacts import File

from components.exported_model.manifest import Manifest, saved_model_path
from components.model_converter import calibration, client
from components.model_converter.calibration import choose_calibration_images
from components.model_converter.component import ModelConverter_Executor
from components.model_converter.formats import FORMATS
from components.model_converter.record import FORMATS_FILE
from components.model_converter.settings import ExportSettings
from components.predictor.executor import write_predictions
from components.transform.resize import resize_image
from components.transform.settings import TransformSettings
from data.decode import decode_image
from pipeline import predict, run_local
from pipeline.formats import publish_formats
from pipeline.local_runner import NodeResult
from pipeline.output_dir import OutputDir
from tests.images import encode
from tests.tiny_pixels import COLOURS, SIZE, make_examples, make_model, paint

ASPECTS = ("stretch", "crop", "pad")
METHODS = ("bilinear", "bicubic", "lanczos3", "area")
TRIED = ("litert-int8", "onnx")
"""Here; `litert` is what is refused below, and a whole run has all three: a conversion costs TensorFlow's import."""


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


def make_colours(count: int, seed: int) -> list[tuple[bytes, str]]:
    return [(paint(COLOURS[i % 3], seed + i), COLOURS[i % 3]) for i in range(count)]


def convert(
    folder: Path,
    model: Artifact,
    examples: Artifact,
    predictions: Artifact,
    destination: str = "/served/7",
    **settings: Any,
) -> tuple[dict[str, Any], Path]:
    """Runs the node, and returns its record and its folder."""
    pushed, output = standard_artifacts.PushedModel(), File()
    pushed.set_string_custom_property("pushed_destination", destination)
    output.uri = str(folder)
    folder.mkdir(exist_ok=True)
    inputs = {"examples": [examples], "model": [model], "predictions": [predictions], "pushed_model": [pushed]}
    chosen = ExportSettings(**{"formats": TRIED, **settings})
    parameters = {"settings": chosen.model_dump_json(), "code_hash": ""}
    ModelConverter_Executor().Do(inputs, {"formats": [output]}, parameters)
    return json.loads((folder / FORMATS_FILE).read_text(encoding="utf-8")), folder


def ask(model: Artifact, examples: Artifact, folder: Path) -> standard_artifacts.InferenceResult:
    predictions = standard_artifacts.InferenceResult()
    predictions.uri = str(folder)
    write_predictions(examples, model, None, predictions.uri)
    return predictions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def examples(folder: Path) -> Artifact:
    return make_examples(folder / "examples", {"train": make_colours(24, 1000), "test": make_colours(30, 0)})


@pytest.fixture(scope="module")
def model(folder: Path) -> Artifact:
    return make_model(folder / "model", aspect="pad", resize_method="area")


@pytest.fixture(scope="module")
def converted(folder: Path, model: Artifact, examples: Artifact) -> tuple[dict[str, Any], Path]:
    return convert(folder / "converted", model, examples, ask(model, examples, folder / "predictions"))


def test_formats_are_converted_run_over_all_test_images_and_kept(converted: tuple[dict[str, Any], Path]) -> None:
    record, folder = converted
    assert (record["reason"], record["images"], record["calibration_images"]) == (None, 30, 24)
    assert record["saved_model"]["accuracy"] == 1.0
    assert record["saved_model"]["milliseconds"] > 0
    assert list(record["formats"]) == list(TRIED)
    for name, row in record["formats"].items():
        assert (row["kept"], row["reason"], row["accuracy"], row["agreement"]) == (True, None, 1.0, 1.0)
        assert row["milliseconds"] > 0
        kept = {path.name: path.stat().st_size for path in (folder / name).iterdir()}
        assert set(kept) == {FORMATS[name].model_file, "classify.py", "labels.txt", "preprocessing.json"}
        assert row["megabytes"] == kept[FORMATS[name].model_file] / 1e6
        assert (folder / name / "labels.txt").read_text(encoding="utf-8") == "blau\ngrün\nrot\n"
    assert {path.name for path in folder.iterdir()} == {*TRIED, FORMATS_FILE}


@pytest.mark.parametrize("format", TRIED)
def test_a_client_of_its_own_gives_the_class_that_predict_gives(
    format: str,
    converted: tuple[dict[str, Any], Path],
    model: Artifact,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    paths = [tmp_path / "eins.jpg", tmp_path / "zwei ü.jpg"]
    for seed, path in enumerate(paths):
        path.write_bytes(paint(COLOURS[seed], 500 + seed))
    command = [sys.executable, "-I", str(converted[1] / format / "classify.py"), *map(str, paths)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    capfd.readouterr()
    assert predict.main(["--model", saved_model_path(model), "--json", *map(str, paths)]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [one["file"] for one in found] == [str(path) for path in paths]
    assert [one["label"] for one in found] == [one["label"] for one in told] == list(COLOURS[:2])
    # Whole numbers know 256 probabilities.
    tolerance = 0.05 if format == "litert-int8" else 1e-4
    for mine, theirs in zip(found, told, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=tolerance)


@pytest.mark.parametrize(("aspect", "method"), [("stretch", "bicubic"), ("pad", "area")])
def test_whoever_follows_the_description_makes_the_model_s_input(aspect: str, method: str, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", aspect=aspect, resize_method=method)
    manifest = make_manifest(image_size=SIZE, classes=COLOURS, aspect=aspect, resize_method=method)
    client.write_companions(tmp_path, "litert", manifest)
    told = json.loads((tmp_path / "preprocessing.json").read_text(encoding="utf-8"))
    picture = decode_image(paint("rot", 0))
    size = [told["image_size"]] * 2
    resize = tf.image.resize_with_pad if told["aspect"] == "pad" else tf.image.resize
    made = resize(
        picture, *(size if told["aspect"] == "pad" else [size]), told["resize_method"], antialias=told["antialias"]
    )
    assert told["rounding"] == "half to even"
    made = tf.clip_by_value(tf.round(made), *map(float, told["input"]["range"]))
    made = tf.reshape(tf.cast(made, told["input"]["dtype"]), told["input"]["shape"])
    assert (told["input"]["channel_order"], told["input"]["layout"]) == ("RGB", "NHWC")
    resize_picture = tf.saved_model.load(saved_model_path(model)).signatures["resize_picture"]
    np.testing.assert_array_equal(made[0], resize_picture(picture=picture)["pixels"])


def test_a_format_that_loses_accuracy_is_refused_with_its_figures(
    folder: Path, converted: tuple[dict[str, Any], Path], model: Artifact, tmp_path: Path
) -> None:
    """The labels of 3 of 30 images are wrong: what is right of the predictions is not of the formats."""
    images = make_colours(30, 0)
    wrong = [(image, COLOURS[0]) if i in (1, 2, 4) else (image, label) for i, (image, label) in enumerate(images)]
    examples = make_examples(tmp_path / "examples", {"train": images[:3], "test": wrong})
    better = make_examples(
        tmp_path / "better", {"test": [(paint(label, i), label) for i, (_, label) in enumerate(wrong)]}
    )
    predictions = ask(model, better, tmp_path / "predictions")
    record, output = convert(tmp_path / "output", model, examples, predictions, formats=("litert",))
    row = record["formats"]["litert"]
    assert (row["kept"], row["accuracy"], row["agreement"]) == (False, 0.9, 0.9)
    assert row["reason"] == "loses 0.1000 of accuracy, more than export.max_accuracy_loss=0.01"
    assert row["megabytes"] > 0
    assert [path.name for path in output.iterdir()] == [FORMATS_FILE]


def test_a_model_that_cannot_be_converted_raises_nothing(examples: Artifact, folder: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", pixels=False)
    predictions = ask(model, examples, tmp_path / "predictions")
    record, _ = convert(tmp_path / "output", model, examples, predictions, formats=("onnx",))
    row = record["formats"]["onnx"]
    assert not row["kept"]
    assert row["reason"] == "cannot be converted: the model has no signature serving_pixels; train it anew"
    assert row["accuracy"] is None


def test_a_converter_that_ends_its_process_raises_nothing(
    model: Artifact, examples: Artifact, converted: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise MemoryError('no room')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    predictions = standard_artifacts.InferenceResult()
    predictions.uri = str(folder / "predictions")
    record, output = convert(tmp_path / "output", model, examples, predictions, formats=("onnx",))
    row = record["formats"]["onnx"]
    assert (row["kept"], row["reason"]) == (False, "cannot be converted: MemoryError: no room")
    assert row["accuracy"] is None
    assert [path.name for path in output.iterdir()] == [FORMATS_FILE]


def test_a_model_that_was_not_pushed_is_not_converted(examples: Artifact, tmp_path: Path) -> None:
    record, output = convert(tmp_path, standard_artifacts.Model(), examples, standard_artifacts.InferenceResult(), "")
    assert (record["reason"], record["formats"]) == ("the model was not pushed", {})
    assert [path.name for path in output.iterdir()] == [FORMATS_FILE]


def test_the_images_of_a_calibration_do_not_depend_on_the_order_and_are_of_all_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "CALIBRATION_IMAGES", 7)
    images = [*make_colours(30, 0), *((paint("rot", seed), "rot") for seed in range(100, 140))]
    chosen = [
        choose_calibration_images(make_examples(tmp_path / str(step), {"train": images[::step]}), 3) for step in (1, -1)
    ]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 7
    assert {dict(images)[image] for image in chosen[0]} == set(COLOURS)


def test_a_missing_package_is_one_line_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], packages=("onnx", "no_such_package")))
    arguments = ["--output-dir", str(tmp_path / "output"), "--set", "export.formats=[litert, onnx]"]
    assert run_local.main(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: export.formats has onnx, for which no_such_package must be installed")
    assert not (tmp_path / "output").exists()


def test_a_format_that_is_named_twice_or_unknown_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for formats, told in (("[onnx, onnx]", "names onnx twice"), ("[tflite]", "'litert', 'litert-int8' or 'onnx'")):
        assert run_local.main(["--set", f"export.formats={formats}"]) == 2
        assert told in capfd.readouterr().err


def make_results(converted: Path, destination: str) -> list[NodeResult]:
    artifacts = {"formats": File(), "pushed_model": standard_artifacts.PushedModel()}
    artifacts["formats"].uri = str(converted)
    artifacts["pushed_model"].set_string_custom_property("pushed_destination", destination)
    found = {key: [artifact.mlmd_artifact] for key, artifact in artifacts.items()}
    return [
        NodeResult("Pusher", "complete", 1.0, {"pushed_model": found["pushed_model"]}),
        NodeResult("ModelConverter", "complete", 1.0, {"formats": found["formats"]}),
    ]


def test_formats_lie_by_the_version_that_was_pushed(converted: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    output, source = OutputDir(tmp_path / "output"), converted[1]
    place = publish_formats(output, "colours", make_results(source, "/served/colours/17"))
    assert place == tmp_path / "output" / "formats" / "colours" / "17"
    assert {path.name for path in place.iterdir()} == {*TRIED, FORMATS_FILE}
    (place / "onnx" / "mark").touch()
    assert publish_formats(output, "colours", make_results(source, "/served/colours/17")) == place
    assert (place / "onnx" / "mark").exists()  # it is the same, and was not copied again
    # Other formats of the same version take their place, whole.
    (tmp_path / "other" / "litert").mkdir(parents=True)
    (tmp_path / "other" / FORMATS_FILE).write_text('{"formats": {"litert": {"kept": true}}}', encoding="utf-8")
    assert publish_formats(output, "colours", make_results(tmp_path / "other", "/served/colours/17")) == place
    assert {path.name for path in place.iterdir()} == {"litert", FORMATS_FILE}
    assert [path.name for path in place.parent.iterdir()] == ["17"]
    assert publish_formats(output, "colours", make_results(source, "")) is None
