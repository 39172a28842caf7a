"""What is kept of each image while all of them are looked at: no bytes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)  # A dict each would be as much again, of 1.2 million.
class ImageRecord:
    """What is known of one image after its check.

    Attributes:
        name: where it lies, relative to its source.
        label: class name; may be empty where `problem` says why.
        split: `train`, `eval` or `test` where the source declares it, else None.
        sha256: of the original file's bytes, hexadecimal; empty where they could not be had.
        reencoded: whether its example holds a PNG in place of the original bytes.
        peak: the largest value of a channel, 0..65535; None where that has 8 bits.
        problem: why it cannot be used, else None.
        fatal: whether the problem hides further images, so that the run must stop.
        group: of `SourceImage`.
        weight: of `SourceImage`.
        given_label: of `SourceImage`.
        left_out: of `SourceImage`.
    """

    name: str
    label: str
    split: str | None
    sha256: str
    reencoded: bool = False
    peak: int | None = None
    problem: str | None = None
    fatal: bool = False
    group: str | None = None
    weight: float = 1.0
    given_label: str | None = None
    left_out: bool = False
