"""Everything that the page shows, as plain JSON values: collected once, rendered as often as wanted."""

import importlib.metadata
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tfx.types import Artifact

from components.evaluator.results import EvaluationResults, read_results
from components.predictor.executor import TEST_SPLIT
from components.predictor.predictions import Predictions, read_predictions
from components.progress import report_progress
from components.report_gen.confusion import make_matrix, shown_in_cells
from components.report_gen.data_facts import make_data_facts
from components.report_gen.headline import make_change, make_headline
from components.report_gen.intervals import bootstrap_intervals
from components.report_gen.label_issues import find_label_issues
from components.report_gen.mistakes import (
    EXPLAINED_MISTAKES,
    confidence_histogram,
    describe_images,
    least_certain,
    worst_mistakes,
)
from components.report_gen.model_card import make_card
from components.report_gen.near_duplicates import find_near_duplicates
from components.report_gen.records import (
    DRIFT_FILE,
    SERVING_FILE,
    TRAINING_FILE,
    TUNING_FILE,
    read_record,
)
from components.report_gen.report_files import FACTS_VERSION
from components.report_gen.settings import ReportSettings
from components.report_gen.shown_images import ShownImages, show_images
from components.report_gen.slices import make_slices
from components.report_gen.wilson import wilson_interval

_SHOWN_OF_A_LIST = 24
_PACKAGES = ("tfx", "tensorflow", "tf-keras", "tensorflow-transform", "tensorflow-model-analysis", "apache-beam")


@dataclass(frozen=True)
class Sources:
    """Where the facts come from; what is None is left out of the page.

    Attributes:
        name: of the pipeline.
        evaluation_uri: what TFMA wrote.
        predictions_uri: of the Predictor.
        examples: raw Examples.
        model_uri: the folder of the SavedModel.
        transform_graph_uri: what makes the model's input of raw images.
        model_run_uri: the Trainer's record.
        statistics_uri: StatisticsGen's.
        anomalies_uri: ExampleValidator's.
        serving_uri: the findings of a serving test.
        tuner_uri: the trials of a search for settings.
        drift_uri: the statistics of the images against those of the blessed run.
        config: the pipeline's configuration.
        code_hashes: node to the hash of its code.
    """

    name: str
    evaluation_uri: str
    predictions_uri: str | None = None
    examples: Artifact | None = None
    model_uri: str | None = None
    transform_graph_uri: str | None = None
    model_run_uri: str | None = None
    statistics_uri: str | None = None
    anomalies_uri: str | None = None
    serving_uri: str | None = None
    tuner_uri: str | None = None
    drift_uri: str | None = None
    config: dict[str, Any] | None = None
    code_hashes: dict[str, str] | None = None


def make_facts(sources: Sources, settings: ReportSettings) -> dict[str, Any]:
    """Collects the facts of all sections.

    Raises:
        ValueError: the evaluation holds no results over all images.
    """
    predictions = read_predictions(sources.predictions_uri) if sources.predictions_uri else None
    return collect_facts(read_results(sources.evaluation_uri), predictions, sources, settings)


def collect_facts(
    results: EvaluationResults, predictions: Predictions | None, sources: Sources, settings: ReportSettings
) -> dict[str, Any]:
    """Does `make_facts` with what was read of the evaluation and the predictions."""
    if predictions is not None and not (len(predictions) and np.isfinite(predictions.probabilities).all()):
        # Nothing can be ranked by what is no number; the gates have refused such a model.
        predictions = None
    report_progress("intervals")
    intervals = None
    if predictions is not None:
        baseline = predictions.baseline_probabilities
        usable = baseline is not None and results.baseline_metrics is not None and np.isfinite(baseline).all()
        intervals = bootstrap_intervals(predictions.labels, predictions.probabilities, baseline if usable else None)
    examples_uri = sources.examples.uri if sources.examples is not None else None
    facts: dict[str, Any] = {
        "version": FACTS_VERSION,
        "name": sources.name,
        "images": results.images,
        "verdict": {
            "blessed": results.passed,
            "gates": [asdict(gate) for gate in results.gates],
            "refusals": results.refusals,
        },
        "headline": make_headline(results, intervals),
        "change": make_change(results, intervals),
        "matrix": make_matrix(results, predictions),
        "classes": _make_classes(results),
        "slices": make_slices(results, predictions),
        "calibration": [asdict(row) for row in results.calibration],
        "histogram": confidence_histogram(predictions) if predictions is not None else None,
        "training": read_record(sources.model_run_uri, TRAINING_FILE),
        "data": make_data_facts(examples_uri, sources.statistics_uri, sources.anomalies_uri),
        "tuning": read_record(sources.tuner_uri, TUNING_FILE),
        "serving": read_record(sources.serving_uri, SERVING_FILE),
        "drift": read_record(sources.drift_uri, DRIFT_FILE),
        "config": sources.config,
        "code_hashes": sources.code_hashes or {},
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "sources": {"evaluation": sources.evaluation_uri, "predictions": sources.predictions_uri},
        "run": None,
    }
    facts.update(_make_image_sections(sources, settings, predictions, facts))
    facts["card"] = make_card(facts)
    return without_numbers_beyond_json(facts)


def _make_classes(results: EvaluationResults) -> list[dict[str, Any]]:
    """Returns the per-class table's rows; recall's and precision's intervals are Wilson's."""
    taken: dict[int, int] = {}
    for _, predicted, images in results.matrix:
        taken[predicted] = taken.get(predicted, 0) + images
    rows = []
    for i, row in enumerate(results.classes):
        recall, precision = row.recall, row.precision
        rows.append(
            {
                **asdict(row),
                "recall_interval": wilson_interval(recall * row.support, row.support) if recall is not None else None,
                "precision_interval": (
                    wilson_interval(precision * taken.get(i, 0), taken.get(i, 0)) if precision is not None else None
                ),
            }
        )
    return rows


def _make_image_sections(
    sources: Sources, settings: ReportSettings, predictions: Predictions | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Returns the sections that show single images, and the thumbnails for them."""
    sections: dict[str, Any] = {
        "mistakes": [],
        "least_certain": [],
        "label_issues": None,
        "duplicates": None,
        "test_images": {},
        "thumbnails": {},
        "heat": {},
        "heat_layer": None,
        "images_shown": settings.images,
    }
    if sources.examples is not None:
        sections["duplicates"] = find_near_duplicates(sources.examples)
    if predictions is None:
        return sections
    report_progress("label errors")
    sections["mistakes"], sections["least_certain"] = worst_mistakes(predictions), least_certain(predictions)
    sections["label_issues"] = find_label_issues(predictions)
    in_cells = shown_in_cells(facts["matrix"])
    listed = [*sections["mistakes"], *sections["least_certain"], *sections["label_issues"]["positions"]]
    sections["test_images"] = describe_images(predictions, list(dict.fromkeys([*listed, *in_cells])))
    if settings.images and sources.examples is not None:
        pairs = sections["duplicates"]["pairs"][:_SHOWN_OF_A_LIST]
        doubtful = sections["label_issues"]["positions"][:_SHOWN_OF_A_LIST]
        shown = ShownImages(
            explained=[*sections["mistakes"][:EXPLAINED_MISTAKES], *sections["least_certain"]],
            listed=[(TEST_SPLIT, i) for i in doubtful] + [key for pair in pairs for key in _keys(pair)],
            in_cells=[(TEST_SPLIT, i) for i in in_cells],
        )
        sections.update(show_images(sources, settings, predictions, shown))
    return sections


def _keys(pair: dict[str, Any]) -> tuple[tuple[str, int], tuple[str, int]]:
    return tuple(pair["first"]), tuple(pair["second"])


def without_numbers_beyond_json(value: Any) -> Any:
    """Returns a copy of plain values in which NaN and infinities are None: JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: without_numbers_beyond_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_numbers_beyond_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
