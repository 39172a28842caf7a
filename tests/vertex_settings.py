"""Settings of a project that does not exist, for the tests of Vertex AI."""

from typing import Any

from pipeline.config import parse_settings
from pipeline.vertex.settings import VertexSettings

IMAGE = "us-docker.pkg.dev/my-project/images/pipeline:v1"


def make_settings(**changes: Any) -> VertexSettings:
    """Returns the least settings there are, with changes."""
    tree = {"project": "my-project", "region": "us-central1", "pipeline_root": "gs://my-bucket/root", "image": IMAGE}
    return parse_settings(VertexSettings, {**tree, **changes})
