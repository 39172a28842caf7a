"""The account of a run: what its nodes found, typed. `summary.json`, report, card and comparison are views of it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from components.evaluator.baseline import Baseline
from components.evaluator.results import CalibrationBin, ClassResult, GateResult
from components.evaluator.rollback import ROLLBACK_GATE
from components.report_gen.wilson import Range
from data.json_files import without_numbers_beyond_json

ACCOUNT_VERSION = 1
"""Of the layout of an account's JSON: one of another version is not read."""

Record = dict[str, Any]
"""What a node or a section of the page says, of plain JSON types, with keys of its own."""


@dataclass(frozen=True)
class Verdict:
    """What all gates came to.

    Attributes:
        blessed: None if there was no gate.
        gates: the Evaluator's bounds.
        refusals: the gates that refused, each with what it found; accounts of earlier runs do not name them.
    """

    blessed: bool | None = None
    gates: tuple[GateResult, ...] = ()
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def rollback(self) -> str | None:
        """When, by whom and why the model was rolled back after it was pushed; None where it was not."""
        return self.refusals.get(ROLLBACK_GATE)

    def with_rollback(self, found: str | None) -> "Verdict":
        """Returns the verdict with what is known now of a rollback, or of its end."""
        refusals = {gate: text for gate, text in self.refusals.items() if gate != ROLLBACK_GATE}
        if found == self.rollback:
            return self
        if found is None:
            return replace(self, blessed=not refusals, refusals=refusals)
        return replace(self, blessed=False, refusals={**refusals, ROLLBACK_GATE: found})

    def describe(self) -> str:
        """Returns the verdict in words, with the gates that refused."""
        if list(self.refusals) == [ROLLBACK_GATE]:
            return "rolled back"
        by = f", refused by {', '.join(self.refusals)}" if self.refusals else ""
        return {True: "blessed", False: f"not blessed{by}", None: "evaluated without a gate"}[self.blessed]


@dataclass(frozen=True)
class Figure:
    """A metric over all test images; what is not known is None.

    Attributes:
        name: of the metric.
        label: its title.
        value: TFMA's.
        lower_is_better: whether a small value is good.
        interval: 95 %.
        method: what gave the interval.
        baseline: the value of the latest blessed model on the same images.
        change: value minus baseline.
        change_interval: 95 %.
    """

    name: str
    label: str
    value: float | None
    lower_is_better: bool
    interval: Range | None
    method: str | None
    baseline: float | None
    change: float | None
    change_interval: Range | None


@dataclass(frozen=True)
class ClassFigures(ClassResult):
    """One class against all others, with Wilson's 95 % intervals."""

    recall_interval: Range | None
    precision_interval: Range | None


@dataclass(frozen=True)
class Account:
    """One run; what it did not come to, or an earlier version did not write down, is empty or None.

    Attributes:
        version: `ACCOUNT_VERSION`.
        name: of the pipeline.
        images: of the test split.
        verdict: of all gates.
        headline: the metrics over all test images.
        change: what is said of the baseline beside the changes of the figures, of `make_change`.
        matrix: of `make_matrix`.
        classes: in the order of the probabilities.
        slices: of `make_slices`.
        calibration: the reliability diagram.
        histogram: of `confidence_histogram`.
        decisions: of `describe_decisions`; accounts of earlier versions have none.
        training: the Trainer's record, with `settings`, `weights`, `history`, `best` and more.
        data: of `make_data_facts`.
        tuning: the Tuner's record: `algorithm`, `best_by`, `best` and `trials`.
        serving: the ServingValidator's: `blessed`, `findings` and `measured`.
        drift: the DriftValidator's: of the images against the blessed run's.
        formats: the ModelConverter's, see `FORMATS_FILE`; None where none was asked for.
        config: the whole configuration.
        code_hashes: node to the hash of its code.
        versions: of packages.
        sources: the folders of `evaluation` and `predictions`.
        run: `title`, `nodes` and `lineage`, which nodes cannot know.
        mistakes: positions in the test split, the worst first; so are the others.
        least_certain: positions.
        doubts: of `find_label_doubts`; accounts of earlier versions have none.
        corrected: of `find_corrected_figures`.
        duplicates: of `find_near_duplicates`.
        test_images: position to what is said of the image.
        thumbnails: "split:position" to a data URI.
        heat: "split:position" to that of the overlay.
        heat_layer: where the overlays come from.
        images_shown: whether pictures may be shown.
        baseline: the latest blessed model.
    """

    version: int = ACCOUNT_VERSION
    name: str = ""
    images: int = 0
    verdict: Verdict = Verdict()
    headline: tuple[Figure, ...] = ()
    change: Record = field(default_factory=dict)
    matrix: Record = field(default_factory=dict)
    classes: tuple[ClassFigures, ...] = ()
    slices: Record = field(default_factory=dict)
    calibration: tuple[CalibrationBin, ...] = ()
    histogram: list[Record] | None = None
    decisions: Record | None = None
    training: Record | None = None
    data: Record | None = None
    tuning: Record | None = None
    serving: Record | None = None
    drift: Record | None = None
    formats: Record | None = None
    config: Record | None = None
    code_hashes: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str | None] = field(default_factory=dict)
    run: Record | None = None
    mistakes: list[int] = field(default_factory=list)
    least_certain: list[int] = field(default_factory=list)
    doubts: Record | None = None
    corrected: Record | None = None
    duplicates: Record | None = None
    test_images: dict[str, Record] = field(default_factory=dict)
    thumbnails: dict[str, str] = field(default_factory=dict)
    heat: dict[str, str] = field(default_factory=dict)
    heat_layer: str | None = None
    images_shown: bool = True
    baseline: Baseline | None = None

    def without_images(self) -> "Account":
        """Returns the account for private data: images are named, not shown."""
        return replace(self, thumbnails={}, heat={}, images_shown=False)

    def to_json(self) -> Record:
        """Returns the account as plain values, for `account_from_json` and for other programs."""
        content: Record = without_numbers_beyond_json(asdict(self))
        return content


_ADAPTER = TypeAdapter(Account)


def account_from_json(content: Any) -> Account:
    """Reads what `to_json` gave, also of an earlier version with the same `ACCOUNT_VERSION`.

    Raises:
        ValueError: it is no account.
    """
    return _ADAPTER.validate_python(content)
