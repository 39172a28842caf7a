"""Settings of the evaluator section: the gates that a model must pass before it is pushed."""

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from components.evaluator.metric_table import CLASS_METRICS, METRICS, OVERALL_METRICS, MetricName
from data.features import normal_form
from data.section import Settings


class Gate(Settings):
    """One condition on one metric of the test split, over all images or for one class."""

    metric: MetricName
    """What is measured: over all images, or, where a slice is named, `precision`, `recall`, `f1` or `auc` of it."""

    slice: Annotated[str, AfterValidator(normal_form)] | None = None
    """The class that the gate is about; without one the gate is about all test images."""

    min: float | None = None
    """The least value that passes, e.g. 0.9 for an accuracy of 90 %."""

    max: float | None = None
    """The greatest value that passes."""

    min_change: float | None = None
    """The least change against the latest blessed model that passes, e.g. -0.01; ignored while there is none."""

    max_change: float | None = None
    """The greatest such change, for `log_loss` and `ece`, which are better when lower."""

    @model_validator(mode="after")
    def _check(self) -> "Gate":
        if self.slice is None and self.metric in CLASS_METRICS:
            allowed = ", ".join(OVERALL_METRICS)
            raise ValueError(f"the metric {self.metric} belongs to one class: name it as slice, or use {allowed}")
        if self.slice is not None and self.metric not in CLASS_METRICS:
            allowed = ", ".join(CLASS_METRICS)
            raise ValueError(f"the metric {self.metric} has no value for the slice {self.slice!r}: use {allowed}")
        if self.min is None and self.max is None and self.min_change is None and self.max_change is None:
            raise ValueError(f"the gate on {self.metric} has no bound: set min, max, min_change or max_change")
        metric = METRICS[self.metric]
        top, hint = metric.top, ", 0.9 is 90 %" if metric.top == 1.0 else ""
        for name, low in (("min", 0.0), ("max", 0.0), ("min_change", -top), ("max_change", -top)):
            bound = getattr(self, name)
            if bound is not None and not low <= bound <= top:
                raise ValueError(f"the gate on {self.metric} has {name} {bound:g}: use {low:g} to {top:g}{hint}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"the gate on {self.metric} has min {self.min} above max {self.max}: nothing can pass")
        wrong = "min_change" if metric.lower_is_better else "max_change"
        if getattr(self, wrong) is not None:
            better, right = ("lower", "max_change") if wrong == "min_change" else ("higher", "min_change")
            raise ValueError(f"{self.metric} is better when {better}: use {right} in place of {wrong}")
        return self


class EvaluatorSettings(Settings):
    """What a trained model must reach on the test split to be blessed, and so pushed."""

    gates: tuple[Gate, ...] = Field(default=(Gate(metric="accuracy", min_change=-0.01),))
    """All of them must pass. Keys: metric, slice (a class name), min, max, min_change, max_change."""

    @field_validator("gates")
    @classmethod
    def _check_gates(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if not gates:
            raise ValueError(
                "there is no gate, and TFX blesses no model without one; [{metric: accuracy, min: 0}] "
                "lets every model pass"
            )
        return gates
