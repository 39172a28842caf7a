"""Deploys a version: archive, model, configuration, endpoint; what fails takes back what it made, and no more."""

from typing import Any

from data.errors import Fault, UserError
from pipeline.sagemaker.archive import PushedModel
from pipeline.sagemaker.calls import Calls
from pipeline.sagemaker.endpoint import Endpoint, Tell, UnderWay, describe_model
from pipeline.sagemaker.endpoint_state import CANARY, STABLE, State
from pipeline.sagemaker.limits import SERVERLESS_DISK_BYTES
from pipeline.sagemaker.resources import (
    Made,
    ensure_archive,
    ensure_config,
    ensure_model,
    make_tags,
    plan_config,
    plan_model,
    read_tags,
)
from pipeline.sagemaker.settings import ROLLED_BACK_TAG, AwsSettings
from pipeline.serving.limits import MEGABYTE


def check_size(settings: AwsSettings, model: PushedModel) -> None:
    """Looks whether a model has room.

    Raises:
        UserError: it has none.
    """
    if settings.serverless.memory_mb is not None and model.size_bytes > SERVERLESS_DISK_BYTES.most:
        raise UserError(
            f"{model.folder}: is {model.size_bytes / MEGABYTE:,.0f} MB, but a serverless endpoint has a disk of"
            f" {SERVERLESS_DISK_BYTES.most / MEGABYTE:,.0f} MB; serve it on instances (serverless.memory_mb=null)"
        )


def deploy(calls: Calls, settings: AwsSettings, model: PushedModel, tell: Tell) -> None:
    """Deploys a version to the endpoint, which is made if need be, and returns when it serves there.

    What serves goes on until the new one does. Each step looks first whether an earlier try has done it. A failure
    takes back what was made now, unless a change is under way whose end is not known.

    Raises:
        UserError | Fault: it was not deployed.
    """
    check_size(settings, model)
    endpoint = Endpoint(calls, settings.endpoint, settings.wait_minutes, tell)
    state = endpoint.settle()
    planned = plan_model(settings, model)
    variants = plan_variants(settings, planned["ModelName"], state)
    made = Made()
    try:
        make_model(calls, settings, model, planned, made, tell)
        _serve(calls, settings, endpoint, state, variants, made)
    except UnderWay:
        raise
    except (UserError, Fault) as error:
        raise made.take_back(error) from error
    _forget_rollback(calls, planned["ModelName"])


def make_model(
    calls: Calls, settings: AwsSettings, model: PushedModel, planned: dict[str, Any], made: Made, tell: Tell
) -> None:
    """Puts a version into S3 and makes a SageMaker model of it, unless both are there."""
    url = planned["PrimaryContainer"]["ModelDataUrl"]
    tell(f"model of version {model.version}: {url}")
    ensure_archive(calls, settings, model, made)
    ensure_model(calls, planned, made)


def plan_variants(settings: AwsSettings, model_name: str, state: State | None) -> list[dict[str, Any]]:
    """Returns the variants that an endpoint is to have, with their weights.

    Args:
        settings: of the new model's variant, and its share of the traffic.
        model_name: the new model.
        state: the endpoint as it is; None where it is not there.

    Raises:
        UserError: a canary has nothing beside it, or SageMaker does not change such an endpoint into the other kind.
    """
    stable = state.find(STABLE) if state and state.status != "Failed" else None
    if settings.serverless.memory_mb is not None and stable and not stable.is_serverless:
        raise UserError(
            f"endpoint {settings.endpoint}: serves on instances, and SageMaker makes no serverless endpoint of one;"
            " choose another name, or delete it first"
        )
    if settings.traffic_percent == 100:
        return [{**make_spec(settings, STABLE, model_name), "InitialVariantWeight": 100.0}]
    if stable is None:
        raise UserError(
            f"traffic_percent is {settings.traffic_percent}, but endpoint {settings.endpoint} serves nothing that could"
            " have the rest; deploy with all of the traffic first"
        )
    if stable.is_serverless:
        raise UserError(
            f"traffic_percent is {settings.traffic_percent}, but endpoint {settings.endpoint} is serverless, which has"
            " one variant and so no canary; deploy with all of the traffic"
        )
    if stable.model == model_name:
        raise UserError(
            f"traffic_percent is {settings.traffic_percent}, but {describe_model(settings.endpoint, model_name)} has"
            f" the rest of endpoint {settings.endpoint} itself; give another version with --model, or leave it out"
        )
    canary = make_spec(settings, CANARY, model_name)
    live = state.find(CANARY) if state else None
    kept = stable.spec if live and live.spec == canary else stable.kept()
    return [
        {**kept, "InitialVariantWeight": float(100 - settings.traffic_percent)},
        {**canary, "InitialVariantWeight": float(settings.traffic_percent)},
    ]


def make_spec(settings: AwsSettings, name: str, model_name: str) -> dict[str, Any]:
    """Returns a variant as `create_endpoint_config` takes it, but for its weight."""
    spec: dict[str, Any] = {"VariantName": name, "ModelName": model_name}
    if settings.serverless.memory_mb is not None:
        spec["ServerlessConfig"] = {
            "MemorySizeInMB": settings.serverless.memory_mb,
            "MaxConcurrency": settings.serverless.max_concurrency,
        }
        return spec
    return spec | {
        "InstanceType": settings.instance_type,
        "InitialInstanceCount": settings.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": settings.startup_seconds,
    }


def change(
    calls: Calls,
    endpoint: Endpoint,
    state: State,
    variants: list[dict[str, Any]],
    tags: list[dict[str, str]],
    made: Made,
) -> None:
    """Gives an endpoint that is there, as it is, a configuration of these variants, and returns when it serves them."""
    planned = plan_config(endpoint.name, variants, tags)
    name = planned["EndpointConfigName"]
    ensure_config(calls, planned, made)
    endpoint.update(name, state)


def _serve(
    calls: Calls,
    settings: AwsSettings,
    endpoint: Endpoint,
    state: State | None,
    variants: list[dict[str, Any]],
    made: Made,
) -> None:
    """Makes the endpoint, or changes what of it is another than it is to be."""
    tags = make_tags(settings)
    if state is not None and state.status == "Failed":
        endpoint.check_unchanged(state)
        endpoint.tell(f"endpoint {endpoint.name}: failed before and serves nothing; it is made anew")
        endpoint.delete()
        state = None
    if state is None:
        planned = plan_config(endpoint.name, variants, tags)
        name = planned["EndpointConfigName"]
        ensure_config(calls, planned, made)
        made.noting(f"endpoint {endpoint.name}", lambda: _delete_failed(endpoint, name))()
        endpoint.create(name, tags)
        return
    weights = {variant["VariantName"]: variant["InitialVariantWeight"] for variant in variants}
    if {one.name: one.spec for one in state.variants} != {
        variant["VariantName"]: {key: value for key, value in variant.items() if key != "InitialVariantWeight"}
        for variant in variants
    }:
        change(calls, endpoint, state, variants, tags, made)
    elif {one.name: one.weight for one in state.variants} != weights:
        endpoint.weigh(weights, state)


def _delete_failed(endpoint: Endpoint, config: str) -> None:
    """Deletes the endpoint if it is the one that was made now and failed."""
    state = endpoint.look()
    if state is None or state.config != config:  # another's, whose end is not waited for
        return
    state = endpoint.settle()
    if state is not None and (state.status, state.config) == ("Failed", config):
        endpoint.delete()


def _forget_rollback(calls: Calls, model_name: str) -> None:
    """Takes the mark of a rollback off a model that is served again."""
    arn = calls.call("sagemaker", "describe_model", ModelName=model_name).get("ModelArn", "")
    if arn and ROLLED_BACK_TAG in read_tags(calls, arn):
        calls.call("sagemaker", "delete_tags", ResourceArn=arn, TagKeys=[ROLLED_BACK_TAG])
