"""What is sent for one run: the compiled spec, completed by what the command line says."""

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format

from data.errors import UserError
from pipeline.vertex.cloud import Submission

HASH_LABEL = "submission-hash"
"""Label by which a run or a schedule whose creation was not answered is known again."""

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MOST_LABELS = 64


def make_pipeline_job(submission: Submission) -> vertex.PipelineJob:
    """Returns the message that creates a run.

    Raises:
        UserError: the spec is none, or a name or a label is not within the service's rules.
    """
    spec = submission.spec.get("pipelineSpec")
    if not isinstance(spec, Mapping) or "root" not in spec:
        raise UserError("the spec holds no pipelineSpec with a root; compile it with --compile-only")
    if not _RUN_ID.fullmatch(submission.run_id):
        raise UserError(f"run id {submission.run_id!r} is not allowed; it matches {_RUN_ID.pattern}")
    if not submission.pipeline_root.startswith("gs://"):
        raise UserError(f"pipeline root {submission.pipeline_root!r} is not in Cloud Storage; give gs://BUCKET/FOLDER")
    spec = copy.deepcopy(dict(spec))
    if not submission.enable_caching:
        for task in _tasks(spec):
            task["cachingOptions"] = {"enableCache": False}
    runtime = {**submission.spec.get("runtimeConfig", {}), "gcsOutputDirectory": submission.pipeline_root}
    runtime["failurePolicy"] = f"PIPELINE_FAILURE_POLICY_FAIL_{'FAST' if submission.fail_fast else 'SLOW'}"
    job: dict[str, Any] = {
        "displayName": submission.spec.get("displayName") or submission.run_id,
        "pipelineSpec": spec,
        "runtimeConfig": runtime,
        "labels": _merge_labels(submission.spec.get("labels", {}), submission.labels),
    }
    if submission.service_account:
        job["serviceAccount"] = submission.service_account
    if submission.network:
        job["network"] = submission.network
    if submission.encryption_key:
        job["encryptionSpec"] = {"kmsKeyName": submission.encryption_key}
    job["labels"][HASH_LABEL] = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:32]
    message = vertex.PipelineJob()
    try:
        json_format.ParseDict(job, vertex.PipelineJob.pb(message))
    except json_format.ParseError as error:
        raise UserError(f"the spec does not fit the service's PipelineJob: {' '.join(str(error).split())}") from error
    return message


def _tasks(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields every task of the root and of the graphs within it."""
    for component in (spec["root"], *spec.get("components", {}).values()):
        yield from component.get("dag", {}).get("tasks", {}).values()


def _merge_labels(own: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """Returns the spec's labels and the user's.

    Raises:
        UserError: a label is not within the rules, is there already, or there are too many.
    """
    for key, value in added.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise UserError(
                f"label {key}={value} is not allowed; the key matches {_LABEL_KEY.pattern}, "
                f"the value {_LABEL_VALUE.pattern}"
            )
        if key == HASH_LABEL or own.get(key, value) != value:
            raise UserError(f"label {key} is set by the pipeline itself; choose another key")
    merged = {**own, **added}
    if len(merged) >= _MOST_LABELS:
        raise UserError(
            f"{len(added)} labels and {len(own)} of TFX are too many; {_MOST_LABELS - 1} in all are allowed"
        )
    return merged
