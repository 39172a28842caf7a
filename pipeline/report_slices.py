"""Figures of any part of the test split, from the kept predictions: no notebook, and no model is run."""

import csv
import difflib
import fnmatch
import io
import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluator.definitions import Answers, hits_among, make_figures, mean
from components.evaluator.metric_table import METRICS
from components.report_gen.numbers import format_interval, format_number
from components.report_gen.wilson import wilson_interval
from data.errors import UserError
from data.features import normal_form

if TYPE_CHECKING:
    from components.predictor.predictions import Predictions

_TEXT_KEYS = ("label", "predicted", "format", "file_name")
_NUMBER_KEYS = ("confidence", "height", "width")
_KEYS = (*_TEXT_KEYS, *_NUMBER_KEYS, "correct")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_METRICS = ("accuracy", "log_loss")
_LISTED = 10


def make_slice(
    predictions_uri: str, conditions: Sequence[str], threshold: float | None, top_k: int | None
) -> dict[str, Any]:
    """Computes figures of the images for which all conditions hold.

    Args:
        predictions_uri: the folder of the Predictor's artifact.
        conditions: e.g. `label=3`, `confidence<0.5`.
        threshold: the least confidence of an answer that counts; the others are no answers. None for all.
        top_k: how many classes an answer may name; None for one.

    Returns:
        `slice`, `images`, `accuracy`, `log_loss` and more, each figure with an `interval` where it is a share;
        `mistakes`, the surest ones; NaN is None.

    Raises:
        UserError: a condition cannot be read, or holds for no image; the predictions are gone.
    """
    from components.predictor.predictions import read_predictions

    try:
        predictions = read_predictions(predictions_uri)
    except FileNotFoundError:
        raise UserError(f"{predictions_uri}: the run's predictions are gone; run the pipeline again") from None
    inside = np.ones(len(predictions), bool)
    for condition in conditions:
        inside &= _matches(predictions, condition)
    if not inside.any():
        raise UserError(f"--slice {' --slice '.join(conditions)}: holds for none of {len(predictions):,} test images")
    class_count = len(predictions.class_names)
    if top_k is not None and top_k > class_count:
        raise UserError(f"--top-k {top_k}: the model has {class_count} classes only")
    answered = inside & (predictions.confidence >= (threshold or 0.0))
    images = int(answered.sum())
    answers = Answers(predictions.labels[answered], predictions.probabilities[answered])
    found = make_figures(answers.sum_terms(), _METRICS)
    figures = [_figure(name, value, images, METRICS[name].is_share) for name, value in found.items()]
    if threshold is not None:
        whole = int(inside.sum())
        figures.insert(0, _figure(f"answered (confidence >= {threshold:g})", images / whole, whole))
    if top_k is not None:
        share = mean(hits_among(top_k, answers).sum(axis=0))
        figures.insert(-1, _figure(f"top_{top_k}_accuracy", share, images))
    wrong = np.flatnonzero(answered & ~predictions.correct)
    wrong = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:_LISTED]
    return {
        "slice": list(conditions),
        "images": int(inside.sum()),
        "of": len(predictions),
        "figures": figures,
        "mistakes": [
            {
                "file_name": predictions.file_names[i],
                "label": predictions.label_names[i],
                "predicted": predictions.class_names[predictions.predicted[i]],
                "confidence": round(float(predictions.confidence[i]), 4),
            }
            for i in wrong
        ],
    }


def _figure(name: str, value: float | np.ndarray, images: int, is_share: bool = True) -> dict[str, Any]:
    known = float(value) if np.isfinite(value) else None
    interval = {"interval": None if known is None else wilson_interval(known * images, images)} if is_share else {}
    return {"name": name, "value": known, **interval}


def _matches(predictions: "Predictions", condition: str) -> np.ndarray:
    """Returns for which images a condition holds, bool [images].

    Raises:
        UserError: the key, the comparison or the value is none.
    """
    parts = re.fullmatch(r"\s*(\w+)\s*(<=|>=|=|<|>)\s*(.*?)\s*", condition)
    if parts is None:
        raise UserError(f"--slice {condition}: expected KEY=VALUE, e.g. --slice label=3 or --slice 'confidence<0.5'")
    key, relation, value = parts.groups()
    if key not in _KEYS:
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.0)[0]
        raise UserError(f"--slice {condition}: unknown key {key}; did you mean {near}? There are {', '.join(_KEYS)}")
    if key in _NUMBER_KEYS:
        try:
            number = float(value)
        except ValueError:
            raise UserError(f"--slice {condition}: {value!r} is no number") from None
        columns = {"confidence": predictions.confidence, "height": predictions.heights, "width": predictions.widths}
        return _COMPARE[relation](columns[key], number)
    if relation != "=":
        raise UserError(f"--slice {condition}: {key} can be compared with = only")
    if key == "correct":
        if value not in ("yes", "no"):
            raise UserError(f"--slice {condition}: correct is yes or no")
        return predictions.correct == (value == "yes")
    if key in ("label", "predicted"):
        value = normal_form(value)  # as classes are; file names stay as they are
        known = {*predictions.class_names, *predictions.label_names}
        if value not in known:
            near = ", ".join(difflib.get_close_matches(value, sorted(known), n=3, cutoff=0.0))
            raise UserError(f"--slice {condition}: no class is called {value!r}; the nearest are {near}")
    if key == "predicted":
        return np.array([predictions.class_names[i] == value for i in predictions.predicted])
    if key == "label":
        return np.array(predictions.label_names) == value
    names = predictions.formats if key == "format" else predictions.file_names
    return np.array([fnmatch.fnmatchcase(name, value) for name in names])


def render_slice(figures: dict[str, Any], format: str | None) -> str:
    """Returns the figures as text for a person, or as `json`, `csv` or `md`."""
    if format == "json":
        return json.dumps(figures, ensure_ascii=False, indent=2) + "\n"
    if format == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["name", "value", "low", "high"])
        writer.writerow(["images", figures["images"], "", ""])
        for row in figures["figures"]:
            writer.writerow([row["name"], row["value"], *(row.get("interval") or ("", ""))])
        return buffer.getvalue()
    rows = [("images", f"{figures['images']:,} of {figures['of']:,}", "")]
    rows += [
        (row["name"], format_number(row["value"]), format_interval(row["interval"]) if row.get("interval") else "")
        for row in figures["figures"]
    ]
    if format == "md":
        lines = ["|  | value | 95 % (Wilson) |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
        return "\n".join(lines) + "\n"
    width = max(len(row[0]) for row in rows)
    lines = [f"{name:<{width}}  {value}{f'  ({interval}, 95 %)' if interval else ''}" for name, value, interval in rows]
    for item in figures["mistakes"]:
        lines.append(f"  {item['file_name']}: {item['label']} taken for {item['predicted']} ({item['confidence']:.4f})")
    return "\n".join(lines) + "\n"
