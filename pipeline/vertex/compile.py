"""Compiles the pipeline for Vertex AI: the graph as everywhere, TFX's compiler, and what TFX leaves out."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tfx.components import Pusher
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.types import BaseChannel

from components.google_cloud.endpoint_target import EndpointTarget
from components.pusher.component import AtomicPusher
from components.pusher.endpoint import EndpointPusher
from components.resolver.component import make_resolver
from data.errors import UserError
from pipeline.config import PipelineConfig
from pipeline.create_pipeline import Deployment, create_pipeline
from pipeline.vertex.container_tasks import container_tasks
from pipeline.vertex.dataflow import BEAM_NODES, SECONDS_PER_HOUR, make_beam_args
from pipeline.vertex.endpoint_settings import find_serving_image
from pipeline.vertex.inputs import Inputs
from pipeline.vertex.limits import task_timeout_hours
from pipeline.vertex.settings import VertexSettings
from pipeline.vertex.sources import make_sources_hash
from pipeline.vertex.task import make_command
from pipeline.vertex.worker_pools import make_trainer_config


def make_deployment(config: PipelineConfig, settings: VertexSettings) -> Deployment:
    """Returns where the nodes run.

    Raises:
        UserError: the Trainer or a Beam step does not fit its machine, or the Tuner would not have the Trainer's.
    """
    if config.tuner.enabled and settings.trainer.device:
        raise UserError(
            "tuner.enabled is true, but the search would run in the task's CPUs, not on the machine of the Trainer's "
            "job; tune with python -m pipeline.run_local --tune, then give the --set that it prints"
        )
    return Deployment(
        pipeline_root=settings.pipeline_root,
        make_pusher=_choose_pusher(config, settings),
        beam_pipeline_args=(),
        enable_cache=settings.cache,
        node_beam_args={node: make_beam_args(settings, config.name, node) for node in BEAM_NODES},
        **_place_trainer(config, settings),
        make_resolver=_make_resolver,
    )


def _choose_pusher(config: PipelineConfig, settings: VertexSettings) -> Callable[..., Pusher]:
    if settings.endpoint.name is None:
        serving_dir = config.serving_model_dir or f"{settings.pipeline_root}/serving_model"
        return partial(AtomicPusher, base_directory=os.path.join(serving_dir, config.name))
    target = EndpointTarget(
        project=settings.project,
        region=settings.region,
        # The registry, where the model has the pipeline's name, wants a letter first, which that need not have.
        model_id=config.name if config.name[0].isalpha() else f"model-{config.name[:57]}",
        encryption_key=settings.encryption_key,
        labels=settings.labels,
        **{**settings.endpoint.model_dump(), "serving_image": find_serving_image(settings.endpoint, settings.image)},
    )
    return partial(EndpointPusher, endpoint=target)


def _place_trainer(config: PipelineConfig, settings: VertexSettings) -> dict[str, Any]:
    """Returns what `Deployment` says of the Trainer."""
    trainer_job = make_trainer_config(settings, config.name, config.trainer)
    if trainer_job is None:
        return {}
    # Imported here: Google's client takes seconds, which no other pipeline needs to pay.
    from components.google_cloud.trainer_job import Executor

    return {"trainer_executor": Executor, "trainer_job": trainer_job}


def _train_together(config: PipelineConfig, settings: VertexSettings) -> PipelineConfig:
    """Returns the configuration with the strategy of several machines.

    Raises:
        UserError: it asks for what they cannot do.
    """
    if config.decision.target_precision is not None:
        raise UserError(
            f"decision.target_precision is set and trainer.replicas is {settings.trainer.replicas}, but where several "
            "machines train no threshold is chosen; train on one machine, or set it to null"
        )
    return config.model_copy(update={"trainer": config.trainer.model_copy(update={"strategy": "multi_worker"})})


def _make_resolver(_: type[ResolverStrategy], __: Mapping[str, BaseChannel]) -> Resolver:
    """Returns a resolver by TFX's own strategy, the only one that Vertex AI knows; it takes no further channel."""
    return make_resolver(LatestBlessedModelStrategy, {})


def compile_spec(config: PipelineConfig, settings: VertexSettings, inputs: Inputs) -> dict[str, Any]:
    """Compiles the pipeline; asks no network and needs no credentials.

    Args:
        config: what to do.
        settings: where to do it.
        inputs: what it starts from.

    Returns:
        The PipelineJob as plain JSON values, such as KubeflowV2DagRunner writes it.

    Raises:
        UserError: something does not fit together.
    """
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

    deployment = make_deployment(config, settings)
    if settings.trainer.replicas > 1:
        config = _train_together(config, settings)
    pipeline = create_pipeline(config, deployment, inputs.fingerprint, inputs.weights)
    runner_config = KubeflowV2DagRunnerConfig(
        display_name=config.name, default_image=settings.image, use_pipeline_spec_2_1=True
    )
    job = KubeflowV2DagRunner(config=runner_config).run(pipeline, write_out=False)
    job.setdefault("labels", {}).update(settings.labels)
    spec = job["pipelineSpec"]
    known = {container.node for container in container_tasks(spec)}
    for name in settings.resources:
        if name not in known | {"default"}:
            raise UserError(f"resources names {name}, which is no component; there are {', '.join(sorted(known))}")
    sources_hash = make_sources_hash()
    for task in container_tasks(spec):
        _set_retries(task.spec, settings)
        _set_resources(task.container, settings, task.node)
        timeout_seconds = round(task_timeout_hours(settings, task.node) * SECONDS_PER_HOUR)
        task.container["command"] = list(make_command(sources_hash, timeout_seconds))
        if task.node in inputs.uncached:
            task.spec["cachingOptions"] = {}
    return job


def _set_retries(task: dict[str, Any], settings: VertexSettings) -> None:
    retries = settings.retries
    if retries.count:
        task["retryPolicy"] = {
            "maxRetryCount": retries.count,
            "backoffDuration": f"{retries.backoff_seconds}s",
            "backoffFactor": retries.backoff_factor,
            "backoffMaxDuration": f"{retries.max_backoff_seconds}s",
        }


def _set_resources(container: dict[str, Any], settings: VertexSettings, node: str) -> None:
    """Sets CPU and memory here: TFX drops those of some nodes."""
    resources = settings.resources_of(node)
    limits = {"cpuLimit": resources.cpu, "memoryLimit": resources.memory_gb}
    limits = {key: value for key, value in limits.items() if value is not None}
    if limits:
        container["resources"] = limits
