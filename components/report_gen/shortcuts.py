"""Whether the classes can be told from one simple figure of the files alone, which a model may learn in their place."""

from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from components.trainer.logistic_regression import FOLDS

MEANINGS = {
    "brightness": "brightness",
    "contrast": "contrast",
    "size": "number of pixels",
    "aspect": "aspect ratio",
    "bytes": "file size",
    "format": "file format",
}
"""The figures that are tried, and what they are called. Not sharpness and colour, which tell many things apart."""

LEAST_SKILL = 0.5
"""Of the way from chance to all classes told rightly, by the lower end of what is likely."""
_LEAST_APART = 0.8
_Z = 1.96
_FEWEST_OF_A_CLASS = 20
_LEAF_IMAGES = 5


def find_shortcuts(figures: dict[str, np.ndarray], labels: np.ndarray, units: np.ndarray) -> list[dict[str, Any]]:
    """Tries each figure: a small decision tree on it alone answers images that it did not learn from.

    Told is one by which the mean recall of the classes is at least half of the way from chance to 1; or by which one
    class is recognised so much more often than others are taken for it that the difference is 0.8 or more: both at the
    lower end of what is likely (95 %). Small classes are left out, for chance tells them apart as well.

    By the first rule, of six clean sets of photographs only steel under a microscope has one: 0.62 of six classes by
    file size or contrast. The second was not tried on photographs.

    Args:
        figures: of `MEANINGS`, float or str [images]; NaN is not known.
        labels: int64 [images].
        units: int64 [images]; the folds divide none.

    Returns:
        `meaning` of the figure, `recall` (the mean over the classes), `chance`, whether it tells `all` classes apart,
        and `classes`, the labels of those that it tells from all others; the clearest first.
    """
    counts = np.bincount(labels)
    rows = np.flatnonzero(counts[labels] >= _FEWEST_OF_A_CLASS)
    classes, known = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        return []
    found = []
    for name, meaning in MEANINGS.items():
        values = figures.get(name)
        answers = None if values is None else _answer_by(_as_columns(values[rows]), known, units[rows])
        if answers is None:
            continue
        recalls, likely, apart = _measure(answers, known, len(classes))
        chance = 1 / len(classes)
        tells_all = bool((likely - chance) / (1 - chance) >= LEAST_SKILL)
        told = classes[apart >= _LEAST_APART].tolist() if len(classes) > 2 else []
        if tells_all or told:
            found.append(
                {
                    "meaning": meaning,
                    "recall": float(recalls.mean()),
                    "chance": chance,
                    "all": tells_all,
                    "classes": told,
                }
            )
    return sorted(found, key=lambda one: (not one["all"], -one["recall"]))


def _as_columns(values: np.ndarray) -> np.ndarray:
    """Returns float [images, columns]: numbers as they are, names as one column each."""
    if values.dtype.kind in "fiu":
        return np.nan_to_num(values.astype(np.float64), nan=-1e9)[:, None]
    return (values[:, None] == np.unique(values)[None]).astype(np.float64)


def _answer_by(columns: np.ndarray, labels: np.ndarray, units: np.ndarray) -> np.ndarray | None:
    """Returns the class of each image by the figure, int64 [images]; None where it is the same for all."""
    if (columns == columns[0]).all():
        return None
    tree = DecisionTreeClassifier(
        max_leaf_nodes=2 * (int(labels.max()) + 1),
        min_samples_leaf=_LEAF_IMAGES,
        class_weight="balanced",
        random_state=0,
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    try:
        answers: np.ndarray = cross_val_predict(tree, columns, labels, groups=units, cv=folds)
    except ValueError:  # fewer groups than folds
        return None
    return answers


def _measure(answers: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Returns each class's recall, what their mean is at least, and by how much each class is told apart at least."""
    images = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[answers == labels], minlength=classes)
    taken = np.bincount(answers, minlength=classes)
    recalls, mistaken = hits / images, (taken - hits) / (len(labels) - images)
    variances = recalls * (1 - recalls) / images
    likely = recalls.mean() - _Z * np.sqrt(variances.sum()) / classes
    spread = np.sqrt(variances + mistaken * (1 - mistaken) / (len(labels) - images))
    return recalls, float(likely), recalls - mistaken - _Z * spread
