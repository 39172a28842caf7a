"""The locked versions of a lane: the one place where they stand."""

import re
from pathlib import Path

from data.errors import UserError

LOCKS = Path(__file__).parent.parent / "locks"
_PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", re.MULTILINE)

# What exchanges protos or SavedModels, or compiles a spec.
CHECKED = (
    "tfx",
    "tensorflow",
    "tf-keras",
    "apache-beam",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "kfp",
    "protobuf",
)


def read_pins(lane: str, name: str = "environment") -> dict[str, str]:
    """Returns package and version of a lock; of packages whose version depends on Python's, the last.

    Args:
        lane: such as `tfx-1.16`.
        name: `environment`, or of an image: `image`, `cpu`, `tpu`, `gpu`.

    Raises:
        UserError: there are no locks, since this is an installed package.
    """
    path = LOCKS / lane / f"{name}.txt"
    if not LOCKS.is_dir():
        raise UserError(
            f"{path} is not there: an installed package has no locks; run this in a checkout of the project"
        )
    return dict(_PIN.findall(path.read_text(encoding="utf-8")))


def locked_versions(lane: str) -> dict[str, str]:
    """Returns the versions that the check before a submission looks at."""
    pins = read_pins(lane)
    return {package: pins[package] for package in CHECKED}
