"""Deletes what this command made at SageMaker for an endpoint, and says what it leaves."""

from collections.abc import Iterator
from dataclasses import dataclass

from data.errors import UserError
from pipeline.sagemaker.calls import Calls, find, pages
from pipeline.sagemaker.endpoint import Endpoint
from pipeline.sagemaker.resources import delete_config, delete_model, list_configs, list_models, parse_model


@dataclass(frozen=True)
class Deletion:
    """What is deleted.

    Attributes:
        endpoint: whether it is there.
        configs: their names.
        models: their names.
        archives: `s3://` places of the models, which stay.
        images: which stay in ECR.
    """

    endpoint: bool
    configs: tuple[str, ...]
    models: tuple[str, ...]
    archives: tuple[str, ...]
    images: tuple[str, ...]

    def describe(self, name: str) -> Iterator[str]:
        """Yields lines for people."""
        for what, names in (
            ("endpoint", [name] if self.endpoint else []),
            ("configuration", self.configs),
            ("model", self.models),
        ):
            yield from (f"  removes  {what} {one}" for one in names)
        yield from (f"  leaves   {url} (aws s3 rm {url})" for url in self.archives)
        yield from (f"  leaves   image {image}" for image in self.images)
        yield f"  leaves   logs /aws/sagemaker/Endpoints/{name}, the role, and what transform jobs wrote"


def plan_deletion(calls: Calls, endpoint: Endpoint) -> Deletion:
    """Says what is there to delete; it changes nothing.

    Raises:
        UserError: a transform job runs with one of the models.
    """
    is_there = endpoint.settle() is not None
    for page in pages(calls, "sagemaker", "list_transform_jobs", NameContains=f"{endpoint.name}-"):
        for job in page.get("TransformJobSummaries", ()):
            name = job["TransformJobName"]
            if job["TransformJobStatus"] != "InProgress" or not name.startswith(f"{endpoint.name}-"):
                continue
            used = find(calls, "sagemaker", "describe_transform_job", TransformJobName=name)
            if used and parse_model(endpoint.name, used["ModelName"]):
                raise UserError(f"transform job {name}: runs with {used['ModelName']}; wait for it")
    models = sorted(model.name for model in list_models(calls, endpoint.name))
    containers = [
        answer["PrimaryContainer"]
        for name in models
        if (answer := find(calls, "sagemaker", "describe_model", ModelName=name))
    ]
    return Deletion(
        is_there,
        tuple(sorted(list_configs(calls, endpoint.name))),
        tuple(models),
        tuple(sorted({container["ModelDataUrl"] for container in containers})),
        tuple(sorted({container["Image"] for container in containers})),
    )


def run_deletion(calls: Calls, endpoint: Endpoint, plan: Deletion) -> None:
    """Deletes it, the endpoint first, which alone costs something; started again it goes on."""
    if plan.endpoint:
        endpoint.delete()
    for name in plan.configs:
        delete_config(calls, name)
    for name in plan.models:
        delete_model(calls, name)
