"""The forms of names in Google Cloud, as types of settings whose messages show the form."""

import re
from typing import Annotated

from pydantic import Field

from pipeline.setting_forms import formed

LABEL_PATTERN = re.compile(r"[a-z0-9_-]{0,63}")
LABEL_KEY_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# The service attaches its own beside them, and allows 64 in all.
MAX_LABELS = 32
# Labels that our own code sets: of a submission, of the Trainer's job and of a pushed version.
OWN_LABELS = frozenset({"submission-hash", "trainer-run", "push", "rollback"})

Hours = Annotated[float, Field(gt=0, le=168)]
Count = Annotated[int, Field(ge=1, le=1000)]


ServiceAccount = Annotated[
    str, formed(r"[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com", "NAME@PROJECT.iam.gserviceaccount.com")
]
Image = Annotated[
    str,
    formed(
        r"[a-z0-9][a-z0-9.:-]*(/[a-z0-9._-]+)+(:[A-Za-z0-9_.-]+)?(@sha256:[0-9a-f]{64})?",
        "REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG",
    ),
]
Experiment = Annotated[str, formed(r"[a-z0-9][a-z0-9-]{0,127}", "a-z, 0-9 and -, up to 128")]
Network = Annotated[
    str, formed(r"projects/[0-9a-z-]+/global/networks/[a-z0-9-]+", "projects/NUMBER/global/networks/NAME")
]
Subnetwork = Annotated[
    str, formed(r"(https://\S+/)?(projects/[^/]+/)?regions/[^/]+/subnetworks/[^/]+", "regions/REGION/subnetworks/NAME")
]
EncryptionKey = Annotated[
    str,
    formed(
        r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+",
        "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY",
    ),
]
BucketPath = Annotated[str, formed(r"gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^\s*?\[\]#]*)?", "gs://BUCKET/FOLDER")]
Project = Annotated[
    str, formed(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", "the project's id: 6 to 30 of a-z, 0-9 and -")
]
Region = Annotated[str, formed(r"[a-z]+-[a-z]+[0-9]+", "a region, such as us-central1")]


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Refuses labels that Google Cloud would refuse, or that would hide those that TFX sets.

    Raises:
        ValueError: names the label.
    """
    if len(labels) > MAX_LABELS:
        raise ValueError(f"there are {len(labels)} labels; at most {MAX_LABELS} are allowed")
    for key, value in labels.items():
        if not LABEL_KEY_PATTERN.fullmatch(key):
            raise ValueError(f"label key {key!r}: use a lower-case letter, then up to 62 of a-z, 0-9, _ and -")
        if not LABEL_PATTERN.fullmatch(value):
            raise ValueError(f"label {key} is {value!r}; use up to 63 of a-z, 0-9, _ and -")
        if key.startswith(("tfx_", "vertex-ai-", "goog")):
            raise ValueError(f"label key {key!r} belongs to TFX or Google; choose another")
        if key in OWN_LABELS:
            raise ValueError(f"label key {key!r} is set by the pipeline itself; choose another")
    return labels


Labels = dict[str, str]
