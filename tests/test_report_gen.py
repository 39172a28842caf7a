"""A real small run: Transform, an exported VGG16 with random weights, TFMA, the Predictor and ReportGen."""

import csv
import hashlib
import importlib.metadata
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
import tf_keras
from PIL import Image
from tfx.types import Artifact, standard_artifacts
from tfx.types.experimental import simple_artifacts

from components.evaluator.executor import Executor as Evaluator
from components.evaluator.settings import EvaluatorSettings
from components.exported_model.manifest import read_manifest
from components.predictor.component import Predictor_Executor as Predictor
from components.predictor.executor import read_records
from components.predictor.predictions import Predictions, read_predictions
from components.report_gen import facts as facts_module
from components.report_gen.executor import Executor as ReportGen
from components.report_gen.facts import Sources
from components.report_gen.grad_cam import make_heat_maps
from components.report_gen.label_doubts import find_corrected_figures
from components.report_gen.label_issues import find_label_issues
from components.report_gen.labelled_images import JoinedFeatures, join_features, read_labelled_images
from components.report_gen.model_card import corrected_text
from components.report_gen.settings import ReportSettings
from components.trainer.backbones import BACKBONES
from components.trainer.export import export_model, load_classifier
from components.trainer.frozen_features import (
    FROZEN_FEATURES_FILE,
    MOST_IMAGES,
    keep_weights,
    read_frozen_weights,
    write_frozen_weights,
)
from components.trainer.model import ImageClassifier, make_model
from components.trainer.transform_graph import TransformGraph
from components.transform.features import TRANSFORMED_IMAGE_KEY, fingerprint, unpack_images
from components.transform.settings import TransformSettings
from data.corrections import Correction
from data.corrections_file import write_corrections
from data.features import IMAGE_KEY
from pipeline import report
from pipeline.config import load_config
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests.images import encode, make_pixels
from tests.report_run import make_predictions
from tests.transform_run import SPLITS, make_artifact, run_transform

CLASSES = ("blue", "green", "red")
SIZE = 32
NARROW = 64  # features of `narrow_vgg16`


def make_split(seed: int, per_class: int) -> list[tuple[bytes, str]]:
    random = np.random.default_rng(seed)
    return [
        (encode(make_pixels(i, SIZE, random), "PNG"), name) for i, name in enumerate(CLASSES) for _ in range(per_class)
    ]


@pytest.fixture(scope="module")
def model(narrow_vgg16: None) -> ImageClassifier:
    tf_keras.utils.set_random_seed(3)
    return make_model(len(CLASSES), SIZE, 0.0, "float32")


@pytest.fixture(scope="module")
def artifacts(model: ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    root = tmp_path_factory.mktemp("run")
    images = {split: make_split(seed, count) for seed, (split, count) in enumerate(zip(SPLITS, (4, 2, 8), strict=True))}
    # The first image of test is in train, too, resaved as a JPEG of another size.
    twin = Image.open(io.BytesIO(images["test"][0][0])).resize((48, 48), Image.Resampling.BICUBIC)
    images["train"][1] = (encode(np.asarray(twin), "JPEG", quality=92), "blue")
    transform_output = run_transform(root, images, {"image_size": SIZE})
    export_model(model, transform_output, TransformSettings(image_size=SIZE), str(root / "model" / "Format-Serving"))
    found = {
        "examples": make_artifact(standard_artifacts.Examples, root / "examples", SPLITS),
        "model": make_artifact(standard_artifacts.Model, root / "model"),
        "transform_graph": make_artifact(standard_artifacts.TransformGraph, root / "graph"),
        "model_run": make_artifact(standard_artifacts.ModelRun, root / "model_run"),
        "evaluation": make_artifact(standard_artifacts.ModelEvaluation, root / "evaluation"),
        "predictions": make_artifact(standard_artifacts.InferenceResult, root / "predictions"),
        "report": make_artifact(simple_artifacts.File, root / "report"),
    }
    epoch = {"phase": "head", "epoch": 1, "loss": 1.2, "accuracy": 0.4, "eval_loss": 1.1, "eval_accuracy": 0.5}
    epoch |= {"learning_rate": 1e-3, "seconds": 2.0}
    record = {"settings": {"backbone": "vgg16"}, "weights": {"kind": "none", "sha256": None}, "image_size": SIZE}
    record |= {"strategy": "CPU", "precision": "float32", "best": epoch, "history": [epoch], "versions": {"numpy": "1"}}
    (root / "model_run" / "training.json").write_text(json.dumps(record), encoding="utf-8")
    blessing = make_artifact(standard_artifacts.ModelBlessing, root / "blessing")
    settings = EvaluatorSettings.model_validate({"gates": [{"metric": "accuracy", "min": 0.999}]})
    context = Evaluator.Context(beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(root / "tmp"), unique_id="1")
    Evaluator(context).Do(
        {key: [found[key]] for key in ("examples", "model")},
        {"evaluation": [found["evaluation"]], "blessing": [blessing]},
        {"settings": settings.model_dump_json(), "example_splits": '["test"]'},
    )
    Predictor().Do(
        {key: [found[key]] for key in ("examples", "model")},
        {"predictions": [found["predictions"]]},
        {"code_hash": ""},
    )
    config = load_config("digits").model_dump(mode="json")
    ReportGen().Do(
        {key: [found[key]] for key in found if key != "report"},
        {"report": [found["report"]]},
        {
            "settings": ReportSettings().model_dump_json(),
            "config": json.dumps(config),
            "code_hash": '{"Trainer": "abc"}',
        },
    )
    return found


@pytest.fixture(scope="module")
def facts(artifacts: dict[str, Artifact]) -> dict[str, Any]:
    return json.loads(Path(artifacts["report"].uri, "facts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predictions(artifacts: dict[str, Artifact]) -> Predictions:
    return read_predictions(artifacts["predictions"].uri, embeddings=True)


def test_the_page_prints_what_tfma_found(artifacts: dict[str, Artifact], facts: dict[str, Any]) -> None:
    result = tfma.load_eval_result(artifacts["evaluation"].uri)
    figures = dict(result.slicing_metrics)[()][""]
    html = Path(artifacts["report"].uri, "report.html").read_text(encoding="utf-8")
    for row in facts["headline"]:
        printed = html.split(f'data-metric="{row["name"]}"')[1].split("strong")[1].split("<")[0].lstrip('">')
        assert printed == f"{figures[''][row['name']]['doubleValue']:.4f}"
    for i, row in enumerate(facts["classes"]):
        line = html.split(f'<th scope="row">{row["name"]}</th>')[1].split("</tr>")[0]
        for metric in ("precision", "recall", "f1", "auc"):
            assert f"{figures[f'classId:{i}'][metric]['doubleValue']:.4f}" in line
    assert facts["verdict"]["blessed"] is False
    assert [gate["passed"] for gate in facts["verdict"]["gates"]] == [False]


def test_the_page_agrees_with_scikit_learn_on_the_kept_predictions(
    facts: dict[str, Any], predictions: Predictions
) -> None:
    labels, predicted, probabilities = predictions.labels, predictions.predicted, predictions.probabilities
    cells = np.zeros([3, 3], int)
    for label, answer, count in facts["matrix"]["cells"]:
        cells[label, answer] = count
    np.testing.assert_array_equal(cells, sklearn.metrics.confusion_matrix(labels, predicted))
    values = {row["name"]: row["value"] for row in facts["headline"]}
    assert values["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
    figures = sklearn.metrics.precision_recall_fscore_support(labels, predicted, zero_division=0)
    rows = [[row[key] for row in facts["classes"]] for key in ("precision", "recall", "f1", "support")]
    assert rows == [list(values) for values in figures]
    # Rows of float32 probabilities sum to 1 within 1e-7, which scikit-learn would warn about.
    exact = probabilities.astype(float) / probabilities.sum(axis=1, dtype=float, keepdims=True)
    assert values["macro_auc"] == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, exact, multi_class="ovr"), abs=1e-3
    )
    assert values["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, exact), abs=1e-5)


def test_the_kept_embeddings_are_the_features_before_the_head(
    model: ImageClassifier, artifacts: dict[str, Artifact], predictions: Predictions
) -> None:
    assert predictions.embeddings is not None
    kernel, bias = (weight.numpy() for weight in model.get_layer("head").weights)
    again = tf.nn.softmax(predictions.embeddings @ kernel + bias).numpy()
    np.testing.assert_allclose(again, predictions.probabilities, atol=1e-6)  # float32, another order of sums


def test_the_twin_in_train_is_found_and_shown(facts: dict[str, Any]) -> None:
    pairs = {(tuple(pair["first"]), tuple(pair["second"])) for pair in facts["duplicates"]["pairs"]}
    assert (("test", 0), ("train", 1)) in pairs
    assert facts["duplicates"]["count"]["test and train"] == len(
        [pair for pair in pairs if (pair[0][0], pair[1][0]) == ("test", "train")]
    )
    assert {"test:0", "train:1"} <= set(facts["thumbnails"])


def test_shown_images_have_overlays(facts: dict[str, Any]) -> None:
    questioned = {*facts["mistakes"][:36], *facts["least_certain"]}
    assert set(facts["heat"]) == {f"test:{i}" for i in questioned}
    assert facts["heat_layer"] == "block3_conv3"
    assert set(facts["thumbnails"]) >= {f"test:{i}" for i in range(24)}


def test_grad_cam_is_the_papers_equation(model: ImageClassifier, artifacts: dict[str, Artifact]) -> None:
    exported = artifacts["model"].uri + "/Format-Serving"
    loaded = load_classifier(exported, read_manifest(exported))
    for mine, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    heat, layer = make_heat_maps(loaded, images, [2, 0])
    network = model.get_layer("backbone")
    deep = tf_keras.Model(network.input, network.get_layer(layer).output)
    rest_input = tf_keras.Input(network.get_layer(layer).output.shape[1:])
    rest = rest_input
    names = [one.name for one in network.layers]
    for name in names[names.index(layer) + 1 :]:
        rest = network.get_layer(name)(rest)
    rest_of_it = tf_keras.Model(rest_input, rest)
    maps = tf.Variable(deep(model.get_layer("preprocessing")(images)))
    for i, class_id in enumerate((2, 0)):
        with tf.GradientTape() as tape:
            score = model.get_layer("head")(rest_of_it(maps))[i, class_id]
        gradient = tape.gradient(score, maps)[i].numpy()
        expected = np.maximum((gradient.mean(axis=(0, 1)) * maps[i].numpy()).sum(axis=-1), 0)
        np.testing.assert_allclose(heat[i], expected / max(expected.max(), 1e-12), atol=1e-4)


def leave_features(
    model: ImageClassifier, artifacts: dict[str, Artifact], folder: Path, depths: tuple[int, ...]
) -> None:
    """Leaves what the Trainer would: of train and eval, in an order of its own."""
    embed = tf.saved_model.load(artifacts["model"].uri + "/Format-Serving").signatures["embed_examples"]
    records = [one for split in ("eval", "train") for one in read_records([artifacts["examples"]], split, 100)]
    features = np.concatenate([embed(examples=one)["embeddings"].numpy() for one in records])
    spec = {IMAGE_KEY: tf.io.FixedLenFeature([], tf.string)}
    prints = [fingerprint(tf.io.parse_example(one, spec)[IMAGE_KEY]).numpy() for one in records]
    arrays = {"features": features.astype(np.float16), "fingerprints": np.concatenate(prints)}
    folder.mkdir()
    np.savez(folder / FROZEN_FEATURES_FILE, **arrays, depths=np.array(depths), pooling="last", strength=1e-3)


def join(artifacts: dict[str, Artifact], predictions: Predictions, folder: Path) -> JoinedFeatures | None:
    examples = artifacts["examples"]
    uris = artifacts["model"].uri + "/Format-Serving", str(folder), artifacts["transform_graph"].uri
    return join_features(read_labelled_images(examples), examples, predictions, *uris)


def test_features_of_all_splits_are_joined_by_image(
    model: ImageClassifier, artifacts: dict[str, Artifact], predictions: Predictions, tmp_path: Path
) -> None:
    assert join(artifacts, predictions, tmp_path) is None  # nothing was left
    folder = tmp_path / "run"
    leave_features(model, artifacts, folder, (NARROW,))
    images = read_labelled_images(artifacts["examples"])
    assert images.splits == ["train"] * 12 + ["eval"] * 6 + ["test"] * 24
    assert images.positions.tolist() == [*range(12), *range(6), *range(24)]
    joined = join(artifacts, predictions, folder)
    assert joined is not None
    assert joined.rows.tolist() == list(range(42))
    embed = tf.saved_model.load(artifacts["model"].uri + "/Format-Serving").signatures["embed_examples"]
    wanted = [
        embed(examples=records)["embeddings"].numpy()
        for split in SPLITS
        for records in read_records([artifacts["examples"]], split, 100)
    ]
    np.testing.assert_allclose(joined.features, np.concatenate(wanted), rtol=2e-3, atol=1e-3)  # float16


def test_of_a_fine_tuned_model_the_weights_before_give_the_features_of_test(
    model: ImageClassifier, artifacts: dict[str, Artifact], predictions: Predictions, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    leave_features(model, artifacts, folder, (NARROW,))
    kept = keep_weights(model)
    before = {**kept, "block5_conv3_bias": kept["block5_conv3_bias"] + 0.5}
    write_frozen_weights(str(folder), before, model)
    assert list(read_frozen_weights(str(folder))) == ["block5_conv3_bias"]
    joined = join(artifacts, predictions, folder)
    assert joined is not None
    assert predictions.embeddings is not None
    found = joined.features[joined.rows >= 18].astype(np.float32)
    assert np.abs(found - predictions.embeddings).max() > 0.1
    graph = TransformGraph(tft.TFTransformOutput(artifacts["transform_graph"].uri))
    exported = artifacts["model"].uri + "/Format-Serving"
    other = load_classifier(exported, read_manifest(exported))
    other.get_layer("backbone").get_layer("block5_conv3").bias.assign(before["block5_conv3_bias"])
    (records,) = read_records([artifacts["examples"]], "test", 100)
    pixels = unpack_images(graph.apply(graph.parse(records, [IMAGE_KEY]))[TRANSFORMED_IMAGE_KEY], SIZE)
    wanted = tf_keras.Model(other.input, other.get_layer("head").input)(pixels).numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(("images", "wanted"), [(MOST_IMAGES, True), (MOST_IMAGES + 1, False), (None, False)])
def test_embeddings_are_read_where_the_labels_of_all_splits_are_looked_at(
    artifacts: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int | None, wanted: bool
) -> None:
    """What the model gave is not computed once more, and its width bounds the work."""
    if images is not None:
        (tmp_path / "data_summary.json").write_text(json.dumps({"counts": {"train": {"a": images}}}), encoding="utf-8")
    found: list[Predictions] = []
    monkeypatch.setattr(facts_module, "collect_account", lambda results, predictions, *_: found.append(predictions))
    uris = {"examples": str(tmp_path), "predictions": artifacts["predictions"].uri}
    facts_module.make_account(Sources("x", uris), ReportSettings())
    assert (found[0].embeddings is not None) == wanted


def test_the_versions_are_told_where_the_build_of_tensorflow_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the images, which have tensorflow-cpu or tensorflow-tpu."""
    find_version = importlib.metadata.version

    def version(package: str) -> str:
        if package == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(package)
        return find_version(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = facts_module.make_account(Sources("x", {}), ReportSettings()).versions
    assert list(versions)[:3] == ["tfx", "tensorflow", "tf-keras"]
    assert versions["tensorflow"] == tf.__version__


def test_where_no_features_were_left_test_is_looked_at_alone(
    facts: dict[str, Any], artifacts: dict[str, Artifact]
) -> None:
    doubts = facts["doubts"]
    assert not doubts["all_splits"]
    assert doubts["reason"] == "the images or the training are not at hand"  # no summary of the data
    with Path(artifacts["report"].uri, "doubtful.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(of["label"] for of in doubts["counts"].values())
    assert all(row["split"] == "test" for row in rows)


def test_corrected_labels_of_test_are_judged_both_ways(predictions: Predictions, tmp_path: Path) -> None:
    hashes = [f"{i:064x}" for i in range(len(predictions))]
    wrong = int(np.flatnonzero(~predictions.correct)[0])
    label, was = predictions.label_names[wrong], predictions.class_names[predictions.predicted[wrong]]
    write_corrections({hashes[wrong]: Correction(hashes[wrong], label, was)}, str(tmp_path / "corrections.csv"))
    known = Predictions(**{**vars_of(predictions), "hashes": hashes})
    found = find_corrected_figures(Sources("x", {"examples": str(tmp_path)}), known)
    assert found is not None
    assert found["test_images"] == 1
    assert found["accuracy"] == pytest.approx(predictions.correct.mean())
    assert found["accuracy_before"] == pytest.approx(predictions.correct.mean() + 1 / len(predictions))
    assert found["sha256"] == hashlib.sha256((tmp_path / "corrections.csv").read_bytes()).hexdigest()
    assert "Labels of 1 test image were corrected: accuracy" in corrected_text(found)
    assert find_corrected_figures(Sources("x", {"examples": str(tmp_path / "none")}), known) is None


def test_flipped_labels_are_the_likely_label_errors() -> None:
    predictions = make_predictions(class_count=4, images=400, skill=16.0)
    labels = predictions.labels.copy()
    labels[:6] = (labels[:6] + 1) % 4
    found = find_label_issues(Predictions(**{**vars_of(predictions), "labels": labels}))
    assert set(range(6)) == set(found["positions"][:6])
    assert found["count"] <= 12


def vars_of(predictions: Predictions) -> dict[str, Any]:
    return {name: getattr(predictions, name) for name in predictions.__dataclass_fields__}


def test_the_budget_of_bytes_is_kept(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    output = make_artifact(simple_artifacts.File, tmp_path / "report")
    ReportGen().Do(
        {key: [artifacts[key]] for key in ("evaluation", "predictions", "examples")},
        {"report": [output]},
        {"settings": ReportSettings(image_kib=20).model_dump_json(), "config": "{}", "code_hash": ""},
    )
    facts = json.loads((tmp_path / "report" / "facts.json").read_text(encoding="utf-8"))
    assert 0 < sum(map(len, facts["thumbnails"].values())) <= 20 * 1024
    assert next(iter(facts["thumbnails"])) == f"test:{facts['mistakes'][0]}"
    assert facts["heat"] == {}
    assert facts["training"] is None


def test_the_command_slices_the_kept_predictions(
    artifacts: dict[str, Artifact], predictions: Predictions, capsys: pytest.CaptureFixture[str]
) -> None:
    green = predictions.labels == 1
    threshold = f"{np.sort(predictions.confidence[green])[2]:.4f}"
    arguments = [artifacts["report"].uri, "--slice", "label=green", "--threshold", threshold, "--top-k", "2"]
    assert report.main([*arguments, "--format", "csv"]) == 0
    rows = {row["name"]: row["value"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    sure = green & (predictions.confidence >= float(threshold))
    assert int(rows["images"]) == green.sum()
    assert 0 < sure.sum() < green.sum()
    assert float(rows[f"answered (confidence >= {float(threshold):g})"]) == sure.sum() / green.sum()
    top = np.argsort(-predictions.probabilities, axis=1)[:, :2]
    assert float(rows["accuracy"]) == (predictions.predicted == 1)[sure].mean()
    assert float(rows["top_2_accuracy"]) == (top == 1).any(axis=1)[sure].mean()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--slice", "label"], "expected KEY=VALUE"),
        (["--slice", "lable=3"], "did you mean label?"),
        (["--slice", "label=gren"], "the nearest are green"),
        (["--slice", "confidence<x"], "'x' is no number"),
        (["--slice", "confidence>1"], "holds for none of 24 test images"),
        (["--top-k", "4"], "the model has 3 classes only"),
        (["--threshold", "2"], "is no probability"),
    ],
)
def test_a_slice_that_cannot_be_is_one_clear_line(
    artifacts: dict[str, Artifact], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([artifacts["report"].uri, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_has_a_map_to_explain(backbone: str) -> None:
    size = 64
    model = make_model(3, size, 0.0, "float32", backbone)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    heat, _ = make_heat_maps(model, images, [0, 2])
    assert [one.shape for one in heat] == [heat[0].shape] * 2
    assert min(heat[0].shape) >= 7
    assert all(np.isfinite(one).all() and one.min() >= 0 and one.max() <= 1 for one in heat)
    assert max(one.max() for one in heat) > 0
