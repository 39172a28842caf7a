"""Recipes as TFX's Trainer runs them: what is shipped, recorded, kept and gone on with."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.exported_model.manifest import read_manifest
from components.exported_model.weights import weight_key
from components.trainer import TRAINING_FILE, recipes, training
from components.trainer.checkpoints import FEATURES_PREFIX
from components.trainer.export import load_classifier
from components.trainer.feature_store import FeatureStore
from components.trainer.frozen_features import read_frozen_features, read_frozen_weights
from components.trainer.run_fn import HISTORY_FILE
from components.transform.features import TRANSFORMED_IMAGE_KEY, fingerprint, unpack_images
from tests.trainer_run import CLASSES, make_images, read_weights, run_trainer
from tests.transform_run import make_example, read_transformed

QUICK = {"recipe": "quick", "weights": "none", "batch_size": 8, "precision": "float32"}
TUNED = {**QUICK, "recipe": "balanced", "fine_tune_epochs": 2, "fine_tune_learning_rate": 1e-3, "deterministic": True}


@pytest.fixture(scope="module")
def root(transformed: Path, narrow_vgg16: None) -> Path:
    return transformed


def read_record(output: Path) -> dict[str, Any]:
    return json.loads((output / "model_run" / TRAINING_FILE).read_text(encoding="utf-8"))


def read_history(output: Path) -> list[dict[str, str]]:
    with (output / "model_run" / HISTORY_FILE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def resume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def quick(root: Path, resume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("quick")
    run_trainer(root, output, QUICK, checkpoint_dir=str(resume), decision={"target_precision": 0.8})
    return output


def test_quick_ships_the_solved_head(quick: Path) -> None:
    record = read_record(quick)
    assert [(row["phase"], row["epoch"]) for row in read_history(quick)] == [("solve", "0")]
    assert record["shipped"] == "solve"
    assert record["settings"]["fine_tune_epochs"] is None
    assert record["resolved"]["fine_tune_epochs"] == 0
    assert record["recipe"]["solved"]["chosen_on"] == "folds"
    assert record["recipe"]["reasons"][0].startswith("recipe quick: 30 train and 12 eval images, 6 classes")
    assert 0.5 <= record["temperature"] <= 5.0
    assert record["best"]["accuracy"] == 1.0
    saved_model = quick / "model" / "Format-Serving"
    manifest = read_manifest(str(saved_model))
    assert manifest.pooling == record["pooling"] == record["recipe"]["solved"]["pooling"]
    # 42 images answered out of folds show 0.8 (24 faultless ones would do), and the rest follows from the model.
    assert record["decision"]["images"] == "folds"
    assert record["decision"]["knows_all"] is None
    assert "a precision of 0.8 is shown, at 95% confidence" in record["decision"]["outcomes"][0]
    assert manifest.decision.model_dump(mode="json").items() <= record["decision"].items()
    assert manifest.decision.refuse_unknown


def test_the_export_answers_as_the_solved_model_does(root: Path, quick: Path) -> None:
    saved_model = quick / "model" / "Format-Serving"
    model = tf.saved_model.load(str(saved_model))
    examples = tf.constant([make_example(encoded, label, "") for encoded, label in make_images(30, seed=0)])
    answers = model.signatures["serving_examples"](examples=examples)["probabilities"].numpy().argmax(1)
    assert answers.tolist() == [CLASSES.index(label) for _, label in make_images(30, seed=0)]
    embeddings = model.signatures["embed_examples"](examples=examples)["embeddings"]
    assert embeddings.shape[1] == len(read_weights(saved_model)["head_kernel"])


def test_going_on_to_balanced_does_not_repeat_the_features(
    root: Path, quick: Path, resume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(resume.glob(f"{FEATURES_PREFIX}*/train-0*.npz"))
    computed: list[str] = []
    write = FeatureStore._write

    def count(self: FeatureStore, name: str, *arguments: Any) -> Any:
        computed.append(name)
        return write(self, name, *arguments)

    monkeypatch.setattr(FeatureStore, "_write", count)
    run_trainer(root, tmp_path, {**QUICK, "recipe": "balanced"}, checkpoint_dir=str(resume))
    assert [name.partition("-view-")[0] for name in computed] == ["train", "eval"]
    assert all("view" in name for name in computed)  # what quick had not
    assert "cannot judge" in read_record(tmp_path)["recipe"]["reasons"][-1] or read_record(tmp_path)["shipped"]


@pytest.fixture(scope="module")
def tuned(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuned")
    run_trainer(root, output, TUNED)
    return output


def check_frozen_features(root: Path, output: Path) -> None:
    """Computes them anew, by the exported model with the weights that its backbone had, and finds each by its image."""
    left = read_frozen_features(str(output / "model_run"))
    assert left is not None
    raw = [*make_images(30, seed=0), *make_images(12, seed=1)]
    prints = fingerprint(tf.constant([encoded for encoded, _ in raw])).numpy()
    assert sorted(prints) == sorted(left.fingerprints)
    export = str(output / "model" / "Format-Serving")
    model = load_classifier(export, read_manifest(export))
    changed = read_frozen_weights(str(output / "model_run"))
    for weight in model.get_layer("backbone").weights:
        if weight_key(weight) in changed:
            weight.assign(changed[weight_key(weight)])
    packed = [row[TRANSFORMED_IMAGE_KEY] for split in ("train", "eval") for row in read_transformed(root, split)]
    embedder = tf_keras.Model(model.input, model.get_layer("head").input)
    wanted = embedder(unpack_images(tf.constant(packed), 32)).numpy()
    # In process Transform keeps the order of the images; the Trainer must not depend on that.
    found = left.features[[left.fingerprints.tolist().index(one) for one in prints]]
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)  # float16
    assert sum(left.depths) == wanted.shape[1]


def test_the_features_of_train_and_eval_are_left_by_image(root: Path, quick: Path) -> None:
    check_frozen_features(root, quick)
    assert not read_frozen_weights(str(quick / "model_run"))
    left = read_frozen_features(str(quick / "model_run"))
    assert left is not None
    assert left.strength == read_record(quick)["recipe"]["solved"]["strength"]


def test_what_fine_tuning_changed_of_the_backbone_is_left_as_it_was(root: Path, tuned: Path) -> None:
    shipped = read_record(tuned)["shipped"]
    assert bool(read_frozen_weights(str(tuned / "model_run"))) == (shipped == "fine-tune")
    check_frozen_features(root, tuned)


def test_fine_tuning_starts_from_the_solved_head_and_competes_with_it(tuned: Path) -> None:
    record = read_record(tuned)
    assert [(row["phase"], row["epoch"]) for row in read_history(tuned)] == [
        ("solve", "0"),
        ("fine-tune", "1"),
        ("fine-tune", "2"),
    ]
    assert len(record["offers"]) == 2
    won = [offer["won"] for offer in record["offers"]]
    assert record["shipped"] == ("fine-tune" if any(won) else "solve")


def test_a_run_that_fine_tuning_does_not_help_ships_the_solved_head(root: Path, quick: Path, tmp_path: Path) -> None:
    settings = {**TUNED, "fine_tune_epochs": 1, "fine_tune_learning_rate": 1e-8, "feature_cache_views": 0}
    run_trainer(root, tmp_path, settings)
    record = read_record(tmp_path)
    assert record["shipped"] == "solve"
    wanted, found = (read_weights(folder / "model" / "Format-Serving") for folder in (quick, tmp_path))
    assert wanted.keys() == found.keys()
    for name in wanted:
        if not name.startswith("head"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-3, atol=1e-3, err_msg=name)
    # Eval, which has judged, has taught, too: quick's head is one that has not seen it.
    assert record["learned_from_eval"]
    assert not read_record(quick)["learned_from_eval"]
    assert not np.allclose(found["head_kernel"], wanted["head_kernel"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("killed_at", "scheme"), [(1, ""), pytest.param(6, "file://", marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_one_that_was_not(
    root: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, scheme: str
) -> None:
    """On a disk, and in a bucket, where the next attempt has another folder and finds the features beside it."""
    steps = iter(range(1, 100))

    def report_step(*_: Any) -> None:
        if next(steps) == killed_at:
            raise Killed

    settings = {**TUNED, "checkpoint_every_steps": 1, "steps_per_execution": 1}
    with monkeypatch.context() as patched:
        patched.setattr(training, "report_step", report_step)
        with pytest.raises(Killed):
            run_trainer(root, tmp_path / "killed", settings, checkpoint_dir=f"{scheme}{tmp_path}/resume")
    with monkeypatch.context() as patched:
        patched.setattr(FeatureStore, "_write", None)  # all that it needs was written before
        run_trainer(root, tmp_path / "resumed", settings, checkpoint_dir=f"{scheme}{tmp_path}/resume")
    wanted, found = (read_weights(folder / "model" / "Format-Serving") for folder in (tuned, tmp_path / "resumed"))
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    assert len(read_history(tmp_path / "resumed")) == 3


@pytest.mark.slow
def test_nor_does_one_whose_head_is_stepped_compute_features_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report_step(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(recipes, "SOLVER_BYTES", 0)
    monkeypatch.setattr(recipes, "HEAD_STEPS", 4)
    with monkeypatch.context() as patched:
        patched.setattr(training, "report_step", report_step)
        with pytest.raises(Killed):
            run_trainer(root, tmp_path / "killed", QUICK, checkpoint_dir=f"{tmp_path}/resume")
    assert any(path.name.startswith(FEATURES_PREFIX) for path in (tmp_path / "resume").iterdir())
    monkeypatch.setattr(FeatureStore, "_write", None)  # all that it needs was written before
    run_trainer(root, tmp_path / "resumed", QUICK, checkpoint_dir=f"{tmp_path}/resume")
    assert read_record(tmp_path / "resumed")["resolved"]["head"] == "standardised"
