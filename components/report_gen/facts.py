"""Gathers the account of a run from what its nodes left, once: it is rendered as often as wanted."""

import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.types import Artifact
from tfx.types import standard_component_specs as specs

from components.drift_validator.report import DRIFT_FILE, DRIFT_KEY
from components.evaluator.results import NO_RESULTS, EvaluationResults, read_results
from components.image_example_gen import SUMMARY_FILE
from components.model_converter.record import FORMATS_FILE, FORMATS_KEY
from components.predictor.executor import PREDICTIONS_KEY, TEST_SPLIT
from components.predictor.predictions import Predictions, read_predictions
from components.progress import report_progress
from components.report_gen.account import Account, ClassFigures, Record, Verdict, account_from_json
from components.report_gen.confusion import make_matrix, shown_in_cells
from components.report_gen.data_facts import make_data_facts
from components.report_gen.decisions import describe_decisions
from components.report_gen.headline import make_change, make_headline
from components.report_gen.intervals import bootstrap_intervals
from components.report_gen.label_doubts import find_corrected_figures, find_label_doubts, shown_first, wants_embeddings
from components.report_gen.mistakes import (
    EXPLAINED_MISTAKES,
    confidence_histogram,
    describe_images,
    least_certain,
    worst_mistakes,
)
from components.report_gen.near_duplicates import find_near_duplicates
from components.report_gen.settings import ReportSettings
from components.report_gen.shown_images import ShownImages, show_images
from components.report_gen.slices import make_slices
from components.report_gen.wilson import wilson_interval
from components.serving_validator.findings import FINDINGS_FILE
from components.trainer import TRAINING_FILE
from components.tuner import TUNING_FILE
from data.json_files import find_json

_SHOWN_OF_A_LIST = 24
_PACKAGES = ("tfx", "tensorflow", "tf-keras", "tensorflow-transform", "tensorflow-model-analysis", "apache-beam")


@dataclass(frozen=True)
class Sources:
    """Where an account comes from; what there is not is left out.

    Attributes:
        name: of the pipeline.
        uris: folder of each input of ReportGen, by its name; of `model` that of the SavedModel.
        examples: raw Examples, whose images are looked at; without them the images are not.
        config: the pipeline's configuration.
        code_hashes: node to the hash of its code.
    """

    name: str
    uris: Mapping[str, str] = field(default_factory=dict)
    examples: Artifact | None = None
    config: Record | None = None
    code_hashes: dict[str, str] = field(default_factory=dict)

    def find_record(self, key: str, file_name: str) -> Record | None:
        """Returns what a node wrote into the folder of an input, or None where there is nothing."""
        return find_json(os.path.join(self.uris[key], file_name)) if key in self.uris else None


def make_account(sources: Sources, settings: ReportSettings) -> Account:
    """Gathers everything; what takes long is made of the images and the predictions, where there are some.

    Raises:
        ValueError: the evaluation holds no results over all images.
    """
    evaluation, kept = sources.uris.get(specs.EVALUATION_KEY), sources.uris.get(PREDICTIONS_KEY)
    embeddings = wants_embeddings(sources.find_record(specs.EXAMPLES_KEY, SUMMARY_FILE))
    predictions = read_predictions(kept, embeddings=embeddings) if kept else None
    return collect_account(read_results(evaluation) if evaluation else NO_RESULTS, predictions, sources, settings)


def collect_account(
    results: EvaluationResults, predictions: Predictions | None, sources: Sources, settings: ReportSettings
) -> Account:
    """Does `make_account` with what was read of the evaluation and the predictions."""
    if predictions is not None and not (len(predictions) and np.isfinite(predictions.probabilities).all()):
        # Nothing can be ranked by what is no number; the gates have refused such a model.
        predictions = None
    intervals = None
    if predictions is not None:
        report_progress("intervals")
        baseline = predictions.baseline_probabilities
        usable = baseline is not None and results.baseline_metrics is not None and np.isfinite(baseline).all()
        intervals = bootstrap_intervals(
            predictions.labels, predictions.probabilities, baseline if usable else None, predictions.decided
        )
    matrix = make_matrix(results, predictions)
    training, data = sources.find_record(specs.MODEL_RUN_KEY, TRAINING_FILE), make_data_facts(sources.uris)
    account = Account(
        name=sources.name,
        images=results.images,
        verdict=Verdict(results.passed, results.gates, results.refusals),
        headline=make_headline(results, intervals),
        change=make_change(results, intervals),
        matrix=matrix,
        classes=tuple(_make_classes(results)),
        slices=make_slices(results, predictions),
        calibration=results.calibration,
        histogram=confidence_histogram(predictions) if predictions is not None else None,
        decisions=describe_decisions(training, predictions),
        training=training,
        data=data,
        tuning=sources.find_record(specs.TUNER_RESULTS_KEY, TUNING_FILE),
        serving=sources.find_record(specs.INFRA_BLESSING_KEY, FINDINGS_FILE),
        drift=sources.find_record(DRIFT_KEY, DRIFT_FILE),
        formats=sources.find_record(FORMATS_KEY, FORMATS_FILE),
        config=sources.config,
        code_hashes=sources.code_hashes,
        versions={package: _find_version(package) for package in _PACKAGES},
        sources={key: sources.uris.get(key) for key in (specs.EVALUATION_KEY, PREDICTIONS_KEY)},
        baseline=results.baseline,
        **_make_label_sections(sources, predictions, training, data),
    )
    account = replace(account, **_make_image_sections(sources, settings, predictions, account))
    return account_from_json(account.to_json())  # The same as whoever reads it from a file has.


def _make_classes(results: EvaluationResults) -> Iterator[ClassFigures]:
    taken: dict[int, int] = {}
    for _, predicted, images in results.matrix:
        taken[predicted] = taken.get(predicted, 0) + images
    for i, row in enumerate(results.classes):
        recall, precision = (
            None if share is None else wilson_interval(share * images, images)
            for share, images in ((row.recall, row.support), (row.precision, taken.get(i, 0)))
        )
        yield ClassFigures(**asdict(row), recall_interval=recall, precision_interval=precision)


def _make_label_sections(
    sources: Sources, predictions: Predictions | None, training: Record | None, data: Record | None
) -> dict[str, Any]:
    """Returns the sections of the account that are about labels."""
    if predictions is None:
        return {}
    report_progress("label errors")
    return {
        "doubts": find_label_doubts(sources, data, training, predictions),
        "corrected": find_corrected_figures(sources, predictions),
    }


def _make_image_sections(
    sources: Sources, settings: ReportSettings, predictions: Predictions | None, account: Account
) -> dict[str, Any]:
    """Returns the sections of the account that show single images, and the thumbnails for them."""
    sections: dict[str, Any] = {"images_shown": settings.images}
    if sources.examples is not None:
        sections["duplicates"] = find_near_duplicates(sources.examples)
    if predictions is None:
        return sections
    sections["mistakes"], sections["least_certain"] = worst_mistakes(predictions), least_certain(predictions)
    in_cells = shown_in_cells(account.matrix)
    listed = [*sections["mistakes"], *sections["least_certain"]]
    sections["test_images"] = describe_images(predictions, list(dict.fromkeys([*listed, *in_cells])))
    if settings.images and sources.examples is not None:
        pairs = sections["duplicates"]["pairs"][:_SHOWN_OF_A_LIST]
        shown = ShownImages(
            explained=[*sections["mistakes"][:EXPLAINED_MISTAKES], *sections["least_certain"]],
            listed=shown_first(account.doubts or {"rows": []}) + [key for pair in pairs for key in _keys(pair)],
            in_cells=[(TEST_SPLIT, i) for i in in_cells],
        )
        sections.update(show_images(sources, settings, predictions, shown))
    return sections


def _keys(pair: dict[str, Any]) -> tuple[tuple[str, int], tuple[str, int]]:
    return tuple(pair["first"]), tuple(pair["second"])


def _find_version(package: str) -> str:
    # The images have TensorFlow under the name of its build, such as tensorflow-cpu.
    return tf.__version__ if package == "tensorflow" else importlib.metadata.version(package)
