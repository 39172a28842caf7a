"""The jobs of a run on Dataflow, known by their names: a cancelled task leaves its job running."""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # A task names its job before anything of the cloud is imported.
    from pipeline.vertex.rest import Session

RUNNER_FLAG = "--runner=DataflowRunner"

_SERVICE = "https://dataflow.googleapis.com/v1b3"
_EXECUTOR_INPUT_FLAG = "--json_serialized_invocation_args"
_TIMEOUT_SECONDS = 60


def name_job(words: Sequence[str]) -> list[str]:
    """Returns Beam's flag for the name of a task's job, which tells its run; none where the task is not on Dataflow.

    Args:
        words: of the task's command, with TFX's executor input: of its outputs, the file lies in
            `ROOT/PROJECT/RUN_ID/TASK_NUMBER/`.
    """
    if RUNNER_FLAG not in words or _EXECUTOR_INPUT_FLAG not in words:
        return []
    outputs = json.loads(words[list(words).index(_EXECUTOR_INPUT_FLAG) + 1]).get("outputs", {})
    parts = outputs.get("outputFile", "").split("/")
    if len(parts) < 4:
        return []
    run_id, task = parts[-3], parts[-2].rpartition("_")[0] or parts[-2]
    # Of two jobs with one name Dataflow refuses the second: a task that is tried again may leave the first running.
    name = f"{run_id}-{task}-{secrets.token_hex(4)}".lower()
    return [f"--job_name={re.sub('[^a-z0-9-]', '-', name)}"]


def find_places(spec: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Returns the projects and regions of Dataflow where a compiled PipelineSpec has jobs."""
    found = set()
    for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
        args = executor.get("container", {}).get("args", [])
        if RUNNER_FLAG in args:
            flags = dict(
                word.removeprefix("--").split("=", 1) for word in args if re.match("--(project|region)=", word)
            )
            found.add((flags["project"], flags["region"]))
    return found


def cancel_jobs(session: "Session", place: tuple[str, str], run_id: str, report: Callable[[str], None]) -> list[str]:
    """Ends the jobs of a run that are under way, and returns the names of those that it asked to end.

    Args:
        session: with credentials.
        place: project and region.
        run_id: of the run.
        report: gets a line for each.

    Raises:
        UserError | CloudFault: as `pipeline.vertex.rest.send`.
    """
    from components.google_cloud.calls import ROLE, Role
    from pipeline.vertex.rest import reason_of, send

    role = Role("roles/dataflow.developer", ROLE.holder, ROLE.otherwise)
    url = f"{_SERVICE}/projects/{place[0]}/locations/{place[1]}/jobs"
    wanted = re.compile(rf"{re.escape(run_id)}-[a-z]+-[0-9a-f]{{8}}")
    page: dict[str, Any] = {}
    ended = []
    while True:
        params = {"filter": "ACTIVE", **({"pageToken": page["nextPageToken"]} if page else {})}
        doing = f"listing the jobs on Dataflow in {place[1]}"
        _, page = send(session, "GET", url, doing=doing, role=role, params=params, timeout=_TIMEOUT_SECONDS)
        for job in page.get("jobs", []):
            if not wanted.fullmatch(job.get("name", "")) or job.get("currentState") == "JOB_STATE_CANCELLING":
                continue
            doing = f"cancelling job {job['name']} on Dataflow"
            change = {"requestedState": "JOB_STATE_CANCELLED"}
            # 400: it has ended meanwhile, for example.
            status, answer = send(
                session,
                "PUT",
                f"{url}/{job['id']}",
                doing=doing,
                role=role,
                taken=(200, 400),
                json=change,
                timeout=_TIMEOUT_SECONDS,
            )
            if status == 400:
                report(f"its job {job['name']} on Dataflow was not ended: {reason_of(answer)}")
                continue
            ended.append(job["name"])
            report(f"ending its job {job['name']} on Dataflow")
        if not page.get("nextPageToken"):
            return ended
