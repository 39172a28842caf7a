"""Whether the export feeds its backbone what the registry says: colour order and normalisation."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from components.serving_validator.checks import make_finding
from components.serving_validator.comparison import ServedProbabilities
from components.serving_validator.findings import Finding
from components.trainer.backbones import Backbone, Preprocessing

SWAPPED = "red and blue were swapped"
NO_MEAN = "the mean were not subtracted"
NO_STD = "the deviation were not divided by"
RAW = "pixels were neither centred nor scaled"
SCALED = "pixels were divided by 255 and nothing else"
MISTAKES = {"colour_order": (SWAPPED,), "normalisation": (NO_MEAN, NO_STD, RAW, SCALED)}
"""Finding -> the mistakes that are told by name."""

_NOT_TOLD_APART = 1e-3


def make_candidates(right: Preprocessing) -> dict[str, Preprocessing]:
    """Returns the registry's preprocessing under `""` and each mistake under its name."""
    nothing, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    candidates = {
        "": right,
        # The channels alone: the numbers stay with the places that the network reads.
        SWAPPED: dataclasses.replace(right, reads_bgr=not right.reads_bgr),
        NO_MEAN: dataclasses.replace(right, mean=nothing),
        SCALED: dataclasses.replace(right, mean=nothing, std=(255.0, 255.0, 255.0)),
    }
    if right.std != one:
        candidates[NO_STD] = dataclasses.replace(right, std=one)
        candidates[RAW] = dataclasses.replace(right, mean=nothing, std=one)
    return candidates


def check_preprocessing(
    backbone: Backbone, served: Mapping[str, ServedProbabilities], candidates: Mapping[str, np.ndarray]
) -> Iterator[Finding]:
    """Finds out what the export does to pixels before the first layer: what the registry says, or a known mistake.

    Args:
        backbone: the registry's entry.
        served: signature -> its answer to the coloured pictures.
        candidates: `""` for the registry's preprocessing and names of mistakes, each with the probabilities that it
            would give, float64 [images, classes].
    """
    for check, mistakes in MISTAKES.items():
        problems = []
        for signature, answer in served.items():
            distances = {name: answer.log_distance(candidates[name]) for name in candidates if name in ("", *mistakes)}
            closest = min(distances, key=lambda name: distances[name])
            # A model that does not look at colour answers the same either way.
            if distances[closest] < distances[""] - _NOT_TOLD_APART:
                problems.append(f"{signature} answers as if {closest}")
        right = backbone.preprocessing
        order = "blue, green, red" if right.reads_bgr else "red, green, blue"
        numbers = f"mean {_numbers(right.mean)}, deviation {_numbers(right.std)}"
        if served:
            yield make_finding(check, problems, f"{backbone.title}'s: {order if check == 'colour_order' else numbers}")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
