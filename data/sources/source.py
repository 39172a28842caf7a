"""What every source of labelled images gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import apache_beam as beam


@dataclass(frozen=True)
class SourceImage:
    """One labelled image as its source holds it, not yet checked.

    Attributes:
        name: where it lies, relative to its source; for people. Empty where `problem` is of a whole place.
        label: the class name; empty where `problem` says why.
        split: `train`, `eval` or `test` where the source declares it, else None.
        encoded: the file's bytes.
        problem: why it cannot be used, where the source knows, else None.
        fatal: whether the problem hides further images, so that the run must stop.
        group: images of one group (a patient, a camera, a burst) stay in one split; None where it belongs to none.
        weight: what it weighs in training, above 0.
        given_label: the label that the source gives, where `data.labels` changes it, else None.
        left_out: whether `data.labels` leaves it out.
    """

    name: str
    label: str
    split: str | None
    encoded: bytes
    problem: str | None = None
    fatal: bool = False
    group: str | None = None
    weight: float = 1.0
    given_label: str | None = None
    left_out: bool = False


class Source(Protocol):
    """A place that labelled images come from; one that reads `data.path` has `lies_at` for `--data PATH`.

    `lies_at(path: str) -> bool` is a static method: says whether what lies at a path is of this kind, by names, and no
    deeper than two levels of a folder. One with something to tell has `notes() -> Sequence[str]`, lines for people, to
    be called after `prepare`.
    """

    def fingerprint(self) -> str:
        """Returns a hexadecimal hash that changes when any image, label or split may have changed.

        Cheap: reads no image and downloads nothing, but sees whether the place is laid out as this source expects.

        Raises:
            UserError: there is no such place, or it is laid out otherwise.
        """

    def prepare(self) -> Sequence[str]:
        """Makes sure that the images can be read: to be called once before `read`.

        Here and not while reading, since an error on a Beam worker loses its type on its way back.

        Returns:
            The names of what lies there and is neither class nor image, for people: side files, and what systems leave.

        Raises:
            UserError: as `fingerprint`, or a download fails.
        """

    def read(self) -> beam.PTransform:
        """Returns a transform from the pipeline's begin to all images, as `SourceImage`s.

        The order does not depend on the order in which a file system lists its files.
        """
