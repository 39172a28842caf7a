"""Every metric by name: its title, its range, which way is better. What it is computed from: `definitions.py`."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

MAX_SLICED_CLASSES = 100
"""Above so many classes there are no slices by class, no figures by class and no AUC: they take minutes and GBs."""


@dataclass(frozen=True)
class Metric:
    """What people are told of a figure, and what a gate may ask of it.

    Attributes:
        title: for the report and the card.
        top: the greatest value; the least is 0.
        lower_is_better: so that a gate bounds its change from above.
        is_share: whether it is a share of images, which Wilson's interval is for.
        least_classes: fewer, and a model does not have it.
        most_classes: more, and a model does not have it.
    """

    title: str
    top: float = 1.0
    lower_is_better: bool = False
    is_share: bool = False
    least_classes: int = 0
    most_classes: float = math.inf


OVERALL_METRICS = {
    "accuracy": Metric("Accuracy", is_share=True),
    "top_5_accuracy": Metric("Top-5 accuracy", is_share=True, least_classes=6),
    "macro_precision": Metric("Macro precision"),
    "macro_recall": Metric("Macro recall"),
    "macro_f1": Metric("Macro F1"),
    "macro_auc": Metric("Macro AUC", most_classes=MAX_SLICED_CLASSES),
    "log_loss": Metric("Log loss", top=math.inf, lower_is_better=True),
    "ece": Metric("Expected calibration error", lower_is_better=True),
    "coverage": Metric("Coverage", is_share=True),
    "selective_accuracy": Metric("Accuracy where it decides"),
}
"""What is measured over all test images, in the order in which it is shown."""

DECISION_METRICS = ("coverage", "selective_accuracy")
"""Those of a model that leaves some images to a person; of another they are 1 and the accuracy, and not shown."""

CLASS_METRICS = {
    "precision": Metric("Precision"),
    "recall": Metric("Recall"),
    "f1": Metric("F1"),
    "auc": Metric("AUC", most_classes=MAX_SLICED_CLASSES),
}
"""What is measured for each class against all others."""

METRICS = {**OVERALL_METRICS, **CLASS_METRICS}

# A type checker wants literals to be written out: that would be a second place to name a metric.
if TYPE_CHECKING:
    MetricName: TypeAlias = str
else:
    MetricName = Literal[tuple(METRICS)]
