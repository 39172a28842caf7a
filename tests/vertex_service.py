"""What the stand-in of Vertex AI does with requests: runs, schedules, experiments and the Trainer's jobs."""

import re
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2

from tests.vertex_stand_in import ServiceError

Script = list[tuple[str, dict[str, str]]]
"""A run's life: its state and each task's at one look after the other; the last one stays."""


@dataclass
class VertexService:
    """Plays PipelineService, ScheduleService, MetadataService and JobService.

    Attributes:
        scripts: lives of runs by id.
        job_states: of each custom job, at one look after the other.
        slow_deletions: whether a schedule is gone only when its deletion is looked at.
    """

    jobs: dict[str, vertex.PipelineJob] = field(default_factory=dict)
    scripts: dict[str, Script] = field(default_factory=dict)
    schedules: dict[str, vertex.Schedule] = field(default_factory=dict)
    contexts: dict[str, vertex.Context] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    custom_jobs: dict[str, vertex.CustomJob] = field(default_factory=dict)
    job_states: list[str] = field(default_factory=lambda: ["JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"])
    slow_deletions: bool = False

    def CreatePipelineJob(self, request: vertex.CreatePipelineJobRequest) -> vertex.PipelineJob:
        name = f"{request.parent}/pipelineJobs/{request.pipeline_job_id}"
        if name in self.jobs:
            raise ServiceError("ALREADY_EXISTS", f"PipelineJob {name} already exists")
        job = vertex.PipelineJob(request.pipeline_job)
        job.name, job.state = name, "PIPELINE_STATE_PENDING"
        job.create_time = {"seconds": 1_800_000_000 + len(self.jobs)}
        self.jobs[name] = job
        return job

    def GetPipelineJob(self, request: vertex.GetPipelineJobRequest) -> vertex.PipelineJob:
        job = _found(self.jobs, request.name)
        script = self.scripts.get(job.name.rpartition("/")[2])
        if script:
            state, tasks = script.pop(0) if len(script) > 1 else script[0]
            job.state = f"PIPELINE_STATE_{state}"
            job.job_detail = {
                "pipeline_run_context": {"name": f"{job.name.partition('/pipelineJobs')[0]}/metadataStores/default/c"},
                "task_details": [
                    # The newest first, to show that order does not matter; the graph itself is a task, too.
                    *(
                        {
                            "task_id": number,
                            "task_name": task,
                            "state": word.partition(":")[0],
                            "error": {"code": 9, "message": word.partition(":")[2]} if ":" in word else None,
                        }
                        for number, (task, word) in reversed(list(enumerate(tasks.items(), 2)))
                    ),
                    {"task_id": 1, "task_name": job.name.rpartition("/")[2], "state": "RUNNING"},
                ],
            }
        return job

    def ListPipelineJobs(self, request: vertex.ListPipelineJobsRequest) -> vertex.ListPipelineJobsResponse:
        wanted = re.fullmatch(r'(?:pipeline_name="(.*)")?', request.filter)
        assert wanted, request.filter
        assert request.order_by == "create_time desc"
        jobs = [
            job
            for job in reversed(self.jobs.values())
            if wanted[1] in (None, dict(job.pipeline_spec["pipelineInfo"])["name"])
        ]
        page, token = _page(jobs, request)
        return vertex.ListPipelineJobsResponse(pipeline_jobs=page, next_page_token=token)

    def CancelPipelineJob(self, request: vertex.CancelPipelineJobRequest) -> empty_pb2.Empty:
        _found(self.jobs, request.name).state = "PIPELINE_STATE_CANCELLING"
        return empty_pb2.Empty()

    def CreateSchedule(self, request: vertex.CreateScheduleRequest) -> vertex.Schedule:
        schedule = vertex.Schedule(request.schedule)
        schedule.name, schedule.state = f"{request.parent}/schedules/{len(self.schedules) + 1}", "ACTIVE"
        schedule.next_run_time = {"seconds": 1_800_000_000}
        self.schedules[schedule.name] = schedule
        return schedule

    def ListSchedules(self, request: vertex.ListSchedulesRequest) -> vertex.ListSchedulesResponse:
        wanted = re.fullmatch(r'(?:display_name="(.*)" AND state="(.*)")?', request.filter)
        assert wanted, request.filter
        schedules = [
            schedule
            for schedule in self.schedules.values()
            if wanted[1] in (None, schedule.display_name) and wanted[2] in (None, schedule.state.name)
        ]
        page, token = _page(schedules, request)
        return vertex.ListSchedulesResponse(schedules=page, next_page_token=token)

    def GetContext(self, request: vertex.GetContextRequest) -> vertex.Context:
        return _found(self.contexts, request.name)

    def CreateContext(self, request: vertex.CreateContextRequest) -> vertex.Context:
        context = vertex.Context(request.context)
        context.name = f"{request.parent}/contexts/{request.context_id}"
        if context.name in self.contexts:
            raise ServiceError("ALREADY_EXISTS", f"Context {context.name} already exists")
        self.contexts[context.name] = context
        return context

    def AddContextChildren(self, request: vertex.AddContextChildrenRequest) -> vertex.AddContextChildrenResponse:
        _found(self.contexts, request.context)
        self.children.setdefault(request.context, []).extend(request.child_contexts)
        return vertex.AddContextChildrenResponse()

    def CreateCustomJob(self, request: vertex.CreateCustomJobRequest) -> vertex.CustomJob:
        job = vertex.CustomJob(request.custom_job)
        job.name, job.state = f"{request.parent}/customJobs/{len(self.custom_jobs) + 1}", "JOB_STATE_PENDING"
        self.custom_jobs[job.name] = job
        return job

    def ListCustomJobs(self, request: vertex.ListCustomJobsRequest) -> vertex.ListCustomJobsResponse:
        wanted = re.fullmatch(r'labels\.([a-z-]+)="(.*)"', request.filter)
        assert wanted, request.filter
        jobs = [job for job in self.custom_jobs.values() if job.labels.get(wanted[1]) == wanted[2]]
        if jobs and not request.page_token:  # A page may have nothing, and a next one.
            return vertex.ListCustomJobsResponse(next_page_token="1")
        return vertex.ListCustomJobsResponse(custom_jobs=jobs)

    def CancelCustomJob(self, request: vertex.CancelCustomJobRequest) -> empty_pb2.Empty:
        _found(self.custom_jobs, request.name).state = "JOB_STATE_CANCELLING"
        return empty_pb2.Empty()

    def GetCustomJob(self, request: vertex.GetCustomJobRequest) -> vertex.CustomJob:
        job = _found(self.custom_jobs, request.name)
        job.state = self.job_states.pop(0) if len(self.job_states) > 1 else self.job_states[0]
        return job

    def GetSchedule(self, request: vertex.GetScheduleRequest) -> vertex.Schedule:
        return _found(self.schedules, request.name)

    def DeleteSchedule(self, request: vertex.DeleteScheduleRequest) -> operations_pb2.Operation:
        _found(self.schedules, request.name)
        name = f"{request.name}/operations/1"
        if self.slow_deletions:
            return operations_pb2.Operation(name=name)
        return self.GetOperation(operations_pb2.GetOperationRequest(name=name))

    def GetOperation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        del self.schedules[request.name.partition("/operations")[0]]
        response = any_pb2.Any()
        response.Pack(empty_pb2.Empty())
        return operations_pb2.Operation(name=request.name, done=True, response=response)


def _found(things: dict[str, Any], name: str) -> Any:
    if name not in things:
        raise ServiceError("NOT_FOUND", f"The resource {name} is not found.")
    return things[name]


def _page(things: list[Any], request: Any) -> tuple[list[Any], str]:
    """Returns one page, of two at most whatever is asked for, as a service may, and the next one's token."""
    start = int(request.page_token or 0)
    end = start + min(request.page_size or 2, 2)
    return things[start:end], str(end) if end < len(things) else ""
