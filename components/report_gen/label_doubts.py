"""What the report says of labels over all splits: doubts, outliers, shortcuts, and what corrections came to."""

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tfx.types import standard_component_specs as specs

from components.predictor.predictions import Predictions
from components.progress import report_progress
from components.report_gen import DOUBTFUL_FILE
from components.report_gen.doubts import find_doubts, join_units
from components.report_gen.label_issues import find_label_issues
from components.report_gen.labelled_images import LabelledImages, join_features, read_labelled_images
from components.report_gen.shortcuts import find_shortcuts
from components.trainer.frozen_features import MOST_IMAGES
from data.corrections import CORRECTIONS_FILE, parse_corrections
from data.features import SPLITS
from data.image_figures import read_image_figures

if TYPE_CHECKING:
    from components.report_gen.facts import Sources

COLUMNS = (
    "content_sha256",
    "name",
    "split",
    "label",
    "suggested_label",
    "kind",
    "label_probability",
    "suggested_probability",
)
"""Of `DOUBTFUL_FILE`."""

LABEL, OUTLIER = "label", "outlier"
_LISTED = {LABEL: 100, OUTLIER: 30}
_PICTURED = {LABEL: 24, OUTLIER: 8}
"""Of each split."""

_MOST_WORK = 5e9
"""Images x features x classes, those of 50,000 images, 1,280 features and 78 classes: beyond it ten regressions take
longer than a report may."""


def wants_embeddings(summary: Mapping[str, Any] | None) -> bool:
    """Says whether `find_label_doubts` reads the predictions' embeddings: of more images it leaves them alone.

    Args:
        summary: ImageExampleGen's, None where there is none.
    """
    return summary is not None and _count_images(summary) <= MOST_IMAGES


def find_label_doubts(
    sources: "Sources", data: Mapping[str, Any] | None, training: Mapping[str, Any] | None, predictions: Predictions
) -> dict[str, Any]:
    """Looks at the labels of all splits, or of test alone where the Trainer left no features.

    Args:
        sources: of the account.
        data: its facts of the data.
        training: the Trainer's record.
        predictions: of the model on test, without NaN.

    Returns:
        `all_splits`; `reason` why not, or None; `images`, `accuracy` of the regression and `unjudged`; `counts`, split
        -> `label`, `outlier`; `looked_at`, doubts that somebody has answered already; `rows`, all that are left, the
        most doubtful first and labels before outliers, with `COLUMNS` and `position`; `shortcuts`, of
        `find_shortcuts`; `skipped`, why not even test was looked at, or None.
    """
    content = _corrections_bytes(sources)
    corrections = parse_corrections(content, CORRECTIONS_FILE) if content is not None else {}
    answered = {one.sha256: one.label for one in corrections.values()}
    reason = _reason_against(sources, data, training, predictions)
    found: dict[str, Any] | None = None
    if reason is None:
        assert sources.examples is not None
        report_progress("label errors of all splits")
        images = read_labelled_images(sources.examples)
        found = _of_all_splits(sources, images, predictions)
        reason = None if found else "the Trainer left no features of these images"
    found = found or _of_test_alone(predictions)
    doubted = found.pop("rows")
    rows = [row for row in doubted if answered.get(row["content_sha256"]) != row["label"]]
    kinds = Counter((row["split"], row["kind"]) for row in rows)
    return {
        "all_splits": reason is None,
        "reason": reason,
        **found,
        "counts": {split: {kind: kinds[split, kind] for kind in (LABEL, OUTLIER)} for split in SPLITS},
        "looked_at": len(doubted) - len(rows),
        "rows": rows,
    }


def find_corrected_figures(sources: "Sources", predictions: Predictions) -> dict[str, Any] | None:
    """Returns what corrected labels of test changed of the accuracy; None where no corrections were applied.

    Returns:
        `sha256` of the file; `test_images` whose label was changed; `accuracy` as corrected, and `accuracy_before`, by
        the labels that they had, over the same images: those that were removed are in neither.
    """
    content = _corrections_bytes(sources)
    if content is None:
        return None
    corrections = parse_corrections(content, CORRECTIONS_FILE)
    classes = {name: index for index, name in enumerate(predictions.class_names)}
    before = predictions.labels.copy()
    for i, (sha256, label) in enumerate(zip(predictions.hashes, predictions.label_names, strict=True)):
        one = corrections.get(sha256)
        if one is not None and one.label == label != one.was:
            before[i] = classes.get(one.was, -1)
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "test_images": int((before != predictions.labels).sum()),
        "accuracy": float(predictions.correct.mean()),
        "accuracy_before": float((predictions.predicted == before).mean()),
    }


def shorten(doubts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the page shows: of each split and kind the first rows."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in doubts["rows"]:
        key = row["split"], row["kind"]
        seen[key] += 1
        if seen[key] <= _LISTED[row["kind"]]:
            kept.append(row)
    return {**doubts, "rows": kept}


def shown_first(doubts: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Returns split and position of the images that get a thumbnail first."""
    kept: list[tuple[str, int]] = []
    for split in SPLITS:
        for kind, most in _PICTURED.items():
            rows = [row for row in doubts["rows"] if (row["split"], row["kind"]) == (split, kind)]
            kept += [(split, row["position"]) for row in rows[:most]]
    return kept


def write_doubtful(rows: Sequence[Mapping[str, Any]], folder: str) -> None:
    """Writes `DOUBTFUL_FILE` into a local or `gs://` folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with tf.io.gfile.GFile(os.path.join(folder, DOUBTFUL_FILE), "wb") as file:
        file.write(text.getvalue().encode("utf-8"))


def _reason_against(
    sources: "Sources", data: Mapping[str, Any] | None, training: Mapping[str, Any] | None, predictions: Predictions
) -> str | None:
    """Returns why all splits cannot be looked at; None where they can."""
    missing = {specs.MODEL_RUN_KEY, specs.MODEL_KEY} - set(sources.uris)
    if sources.examples is None or missing or training is None or data is None:
        return "the images or the training are not at hand"
    if (training.get("warm_start") or {}).get("applies"):
        return "the model went on from an earlier one, whose features have learned labels"
    if not (training.get("recipe") or {}).get("solved"):
        return "the head was not solved (recipe manual, several workers, or too many images), so no features were kept"
    images = _count_images(data)
    if images > MOST_IMAGES:
        return f"there are {images:,} images, more than {MOST_IMAGES:,}"
    features = 0 if predictions.embeddings is None else predictions.embeddings.shape[1]
    if images * features * len(predictions.class_names) > _MOST_WORK:
        return f"{images:,} images of {len(predictions.class_names):,} classes would take too long"
    return None


def _count_images(data: Mapping[str, Any]) -> int:
    return sum(sum(by_class.values()) for by_class in data["counts"].values())


def _of_all_splits(sources: "Sources", images: LabelledImages, predictions: Predictions) -> dict[str, Any] | None:
    assert sources.examples is not None
    joined = join_features(
        images,
        sources.examples,
        predictions,
        sources.uris[specs.MODEL_KEY],
        sources.uris[specs.MODEL_RUN_KEY],
        sources.uris.get(specs.TRANSFORM_GRAPH_KEY),
    )
    if joined is None:
        return None
    names = predictions.class_names
    indices = {name: index for index, name in enumerate(names)}
    labels = np.array([indices.get(label, -1) for label in images.labels], np.int64)
    units = join_units([images.hashes[i] or f"{i}" for i in range(len(images))], images.groups)
    usable = labels[joined.rows] >= 0
    rows, frozen = joined.rows[usable], joined.frozen
    if len(np.unique(labels[rows])) < 2:
        return None
    doubts = find_doubts(
        joined.features[usable],
        frozen.depths,
        labels[rows],
        units[rows],
        len(names),
        frozen.strength,
        as_a_whole=frozen.pooling != "last",
    )
    listed = []
    for kind, found in ((LABEL, doubts.labels), (OUTLIER, doubts.outliers)):
        for place in found.tolist():
            i, probabilities = int(rows[place]), doubts.probabilities[place]
            suggested = int(probabilities.argmax())
            listed.append(
                {
                    "content_sha256": images.hashes[i],
                    "name": images.names[i],
                    "split": images.splits[i],
                    "position": int(images.positions[i]),
                    "label": images.labels[i],
                    "suggested_label": names[suggested],
                    "kind": kind,
                    "label_probability": round(float(probabilities[labels[i]]), 6),
                    "suggested_probability": round(float(probabilities[suggested]), 6),
                }
            )
    figures = read_image_figures(sources.uris[specs.EXAMPLES_KEY], images.hashes) or {}
    figures |= {
        "size": np.log2(np.maximum(images.pixels, 1)),
        "bytes": np.log2(np.maximum(images.file_bytes, 1)),
        "format": np.array(images.formats),
    }
    shortcuts = find_shortcuts({name: values[rows] for name, values in figures.items()}, labels[rows], units[rows])
    shortcuts = [{**one, "classes": [names[label] for label in one["classes"]]} for one in shortcuts]
    return {
        "images": len(rows),
        "accuracy": doubts.accuracy,
        "unjudged": int((~doubts.judged).sum()),
        "rows": listed,
        "shortcuts": shortcuts,
        "skipped": None,
    }


def _of_test_alone(predictions: Predictions) -> dict[str, Any]:
    """Returns what the model's own probabilities of test say."""
    issues = find_label_issues(predictions)
    rows = []
    for i in issues["positions"]:
        suggested = int(predictions.predicted[i])
        rows.append(
            {
                "content_sha256": predictions.hashes[i],
                "name": predictions.file_names[i],
                "split": "test",
                "position": i,
                "label": predictions.label_names[i],
                "suggested_label": predictions.class_names[suggested],
                "kind": LABEL,
                "label_probability": round(float(predictions.label_probabilities[i]), 6),
                "suggested_probability": round(float(predictions.probabilities[i, suggested]), 6),
            }
        )
    return {
        "images": len(predictions),
        "accuracy": None,
        "unjudged": 0,
        "rows": rows,
        "shortcuts": [],
        "skipped": issues["skipped"],
    }


def _corrections_bytes(sources: "Sources") -> bytes | None:
    """Returns the file that ImageExampleGen applied, None where there was none."""
    if specs.EXAMPLES_KEY not in sources.uris:
        return None
    path = os.path.join(sources.uris[specs.EXAMPLES_KEY], CORRECTIONS_FILE)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        content: bytes = file.read()
    return content
