"""What is sent for one run: the compiled spec, completed by what the command line says."""

import copy
import hashlib
import json

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format

from data.errors import UserError
from pipeline.vertex.cloud import Submission

HASH_LABEL = "submission-hash"
"""Label by which a run or a schedule whose creation was not answered is known again."""


def make_pipeline_job(submission: Submission) -> vertex.PipelineJob:
    """Returns the message that creates a run.

    Raises:
        UserError: the spec is none of the service's.
    """
    settings, job = submission.settings, copy.deepcopy(dict(submission.spec))
    job["runtimeConfig"]["failurePolicy"] = f"PIPELINE_FAILURE_POLICY_FAIL_{'FAST' if settings.fail_fast else 'SLOW'}"
    if settings.service_account:
        job["serviceAccount"] = settings.service_account
    if settings.network:
        job["network"] = settings.network
    if settings.encryption_key:
        job["encryptionSpec"] = {"kmsKeyName": settings.encryption_key}
    job["labels"][HASH_LABEL] = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:32]
    message = vertex.PipelineJob()
    try:
        json_format.ParseDict(job, vertex.PipelineJob.pb(message))
    except json_format.ParseError as error:
        raise UserError(f"the spec does not fit the service's PipelineJob: {' '.join(str(error).split())}") from error
    return message
