"""Says where each split came from: what the source declared, and what was cut from train."""

from collections.abc import Iterable, Mapping
from typing import Any

from data.features import SPLITS


def make_split_origins(declared: Iterable[tuple[str | None, str]], cut: Mapping[str, float]) -> dict[str, Any]:
    """Collects the facts.

    Args:
        declared: split, None where the source declares none, and what declares it, of each image.
        cut: `Rules.cut`.

    Returns:
        Split -> `declared_by`, the names in alphabetical order (empty where nothing declares it), and `cut_share`, its
        share of the images of train (None where it is not cut from there).
    """
    names: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, name in declared:
        if split is not None:
            names[split].add(name)
    return {split: {"declared_by": sorted(names[split]), "cut_share": cut.get(split)} for split in SPLITS}


def describe_split_origins(origins: Mapping[str, Any]) -> str | None:
    """Returns one line on what each declared split became; None where all are declared, or none.

    Args:
        origins: of `make_split_origins`.
    """
    declared = {split: origin["declared_by"] for split, origin in origins.items() if origin["declared_by"]}
    cut = {split: origin["cut_share"] for split, origin in origins.items() if origin["cut_share"] is not None}
    if not declared or not cut:
        return None
    parts = []
    for split, names in declared.items():
        if split == "train":
            given = ["train", *(f"{other} ({100 * share:g} % cut)" for other, share in cut.items())]
            parts.append(f"{_join(names)} gave {_join(given)}")
        else:
            parts.append(f"{_join(names)} became {split}")
    return ", ".join(parts)


def _join(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
