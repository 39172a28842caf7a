"""Warm start: a training goes on from the latest blessed model, if that may be and can be."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from components.exported_model.manifest import artifact_folder, read_classes, read_origin
from components.exported_model.weights import read_weights, weight_key
from components.progress import report_progress
from components.trainer.backbones import Pooling
from components.trainer.model import ImageClassifier
from data.image_hashes import (
    TRAINING_IMAGES_FILE,
    find_overlap,
    read_image_hashes,
    read_split_hashes,
    write_image_hashes,
)

_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class WarmStart:
    """What became of `trainer.warm_start`.

    Attributes:
        base: folder of the latest blessed model's artifact, or None where there is none.
        refused: why the base is not started from, or None.
        kept: classes whose rows of the head are the base's.
        new: classes that the base does not know.
        dropped: classes of the base that are no longer there.
        learn_statistics: the base's; see `Origin`.
        pooling: what the base's head reads.
    """

    base: str | None = None
    refused: str | None = None
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    learn_statistics: bool = False
    pooling: Pooling = "last"

    @property
    def applies(self) -> bool:
        """Says whether training starts from the base."""
        return self.base is not None and self.refused is None

    def describe(self) -> str:
        """Says it in one line, for a person."""
        if self.base is None:
            return "there is no blessed model to start from yet"
        model = "/".join(self.base.rstrip("/").rsplit("/", 3)[1:])
        if self.refused is not None:
            return f"from {model} refused: {self.refused}"
        changes = [f"{len(self.kept)} of {len(self.kept) + len(self.new)} classes kept"]
        changes += [
            f"{word}: {_shorten(names)}" for word, names in (("new", self.new), ("dropped", self.dropped)) if names
        ]
        return f"from {model}: {', '.join(changes)}"

    def to_record(self) -> dict[str, Any]:
        """Returns it as plain JSON types, with the line."""
        return {**asdict(self), "description": self.describe()}


def plan_warm_start(base_model: str | None, examples_uri: str, backbone: str, class_names: Sequence[str]) -> WarmStart:
    """Decides whether training may start from a model, and what of its head is kept.

    A base that cannot be used is refused with a reason and training starts as it would without: a scheduled
    retraining must not end because somebody changed the splits, but what it makes must be judged on unseen images.

    Args:
        base_model: folder of the latest blessed SavedModel, or None where there is none.
        examples_uri: the transformed examples, which hold the hashes of their images.
        backbone: of the model that is to be trained, a key of `BACKBONES`.
        class_names: its classes.
    """
    if base_model is None:
        return WarmStart()
    base = artifact_folder(base_model)
    origin, trained = read_origin(base_model), read_image_hashes(os.path.join(base, TRAINING_IMAGES_FILE))
    splits = read_split_hashes(examples_uri)
    if origin is None or trained is None or splits is None:
        return WarmStart(base, "it is not recorded which images trained it")
    if origin.backbone != backbone:
        return WarmStart(base, f"its backbone is {origin.backbone}, and trainer.backbone is {backbone}")
    overlap = find_overlap(trained, splits)
    if overlap.images:
        return WarmStart(base, str(overlap))
    known, wanted = (dict.fromkeys(names) for names in (read_classes(base_model), class_names))  # ordered sets
    return WarmStart(
        base,
        kept=tuple(name for name in wanted if name in known),
        new=tuple(name for name in wanted if name not in known),
        dropped=tuple(name for name in known if name not in wanted),
        learn_statistics=origin.learn_statistics,
        pooling=cast(Pooling, origin.pooling),
    )


def load_base(model: ImageClassifier, base_model: str, class_names: Sequence[str], pooling: Pooling = "last") -> None:
    """Sets the backbone to that of a base, and each row of the head whose class the base knows by name.

    Rows of other classes keep what the head's initialiser gave them, and all do where the base's head reads something
    else. The image size may differ: no weight of a backbone depends on it.

    Args:
        model: from `make_model`, of the base's backbone.
        base_model: folder of a SavedModel that `export_model` wrote.
        class_names: the classes of `model`, in the order of its logits.
        pooling: what the base's head reads.
    """
    new_rows, old_rows = _match_rows(base_model, class_names)
    head = {id(variable) for variable in model.get_layer("head").weights}
    arrays = []
    for variable, array in zip(model.weights, read_weights(base_model, map(weight_key, model.weights)), strict=True):
        if id(variable) in head:  # The kernel [features, classes] and the bias [classes]: classes come last.
            mixed = variable.numpy()
            if pooling == model.pooling:
                mixed[..., new_rows] = array[..., old_rows]
            array = mixed
        arrays.append(array)
    model.set_weights(arrays)


def read_base_kernel(base_model: str, class_names: Sequence[str]) -> np.ndarray:
    """Returns the kernel of a base's head for our classes, float64 [features, classes], 0 for new ones."""
    (saved,) = read_weights(base_model, ["head_kernel"])
    new_rows, old_rows = _match_rows(base_model, class_names)
    kernel = np.zeros([len(saved), len(class_names)])
    kernel[:, new_rows] = saved[:, old_rows]
    return kernel


def _match_rows(base_model: str, class_names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Returns the rows of our head whose classes the base knows, and its rows for them."""
    rows = {name: row for row, name in enumerate(read_classes(base_model))}
    kept = [(new, rows[name]) for new, name in enumerate(class_names) if name in rows]
    return [new for new, _ in kept], [old for _, old in kept]


def write_training_images(model_uri: str, examples_uri: str, warm_start: WarmStart) -> None:
    """Writes into a `model` artifact which images trained it.

    Those of a base that it was started from trained it, too. Where they are not recorded, nor are its own.
    """
    splits = read_split_hashes(examples_uri)
    if splits is None:
        return
    trained = np.union1d(splits["train"], splits["eval"])  # `eval` chose the epoch.
    if warm_start.applies:
        earlier = read_image_hashes(os.path.join(str(warm_start.base), TRAINING_IMAGES_FILE))
        assert earlier is not None, "plan_warm_start refuses such a base"
        trained = np.union1d(trained, earlier)
    write_image_hashes(trained, os.path.join(model_uri, TRAINING_IMAGES_FILE))


def report_warm_start(warm_start: WarmStart, instead: str) -> None:
    """Tells the person at the screen what training starts from; `instead` names the weights that it falls back on."""
    line = f"warm start {warm_start.describe()}" if warm_start.base else f"warm start: {warm_start.describe()}"
    if not warm_start.applies:
        line += f"; training starts from weights {instead}"
    report_progress(line, lasting=True)


def _shorten(names: Sequence[str]) -> str:
    more = [f"{len(names) - _SHOWN_CLASSES} more"] if len(names) > _SHOWN_CLASSES else []
    return ", ".join([*names[:_SHOWN_CLASSES], *more])
