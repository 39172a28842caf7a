"""The lane of this environment: which tested set of TFX and what goes with it."""

import importlib.metadata


def installed_lane() -> str:
    """Returns its name, TFX's version without the patch: `tfx-1.16`.

    What one lane computed is not taken for the other's: it is part of cache keys and of checkpoints.
    """
    return lane_of(importlib.metadata.version("tfx"))


def lane_of(tfx: str) -> str:
    """Returns the lane of a version of TFX."""
    return "tfx-" + ".".join(tfx.split(".")[:2])
