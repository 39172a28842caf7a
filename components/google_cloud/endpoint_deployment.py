"""A model's way to a Vertex endpoint: a version in the registry, a deployment, its traffic, and the old one's end.

Every step looks first whether an earlier try has done it, so that a push whose connection broke, or whose node is run
again by the service, ends in one version and one deployment.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import STEP_ROLE
from components.google_cloud.endpoint_target import EndpointTarget
from components.google_cloud.endpoints import NEW, Endpoints, describe_kind, has_traffic, model_of
from components.google_cloud.model_version import ensure_version, make_encryption

CREATE_SECONDS = 600.0


@dataclass(frozen=True)
class Deployment:
    """What a push has led to.

    Attributes:
        endpoint: resource name.
        version: of the model in the registry.
        traffic: percent by the id of each model that is still deployed.
        deployed_id: the new model's id among them.
        undeployed: ids of the models that were taken off.
        notes: in what the endpoint is not what was asked for.
    """

    endpoint: str
    version: str
    traffic: dict[str, int]
    deployed_id: str
    undeployed: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def described(self) -> str:
        """Returns one line for people."""
        share = self.traffic.get(self.deployed_id, 0)
        gone = f", {len(self.undeployed)} replaced" if self.undeployed else ""
        return f"version {self.version} is deployed to {self.endpoint} with {share} % of the traffic{gone}"


def deploy(target: EndpointTarget, model_uri: str) -> Deployment:
    """Deploys a SavedModel.

    Args:
        target: where and on what.
        model_uri: `gs://` folder of the SavedModel, or of its one version where the server wants that; what is pushed
            is known by it again.

    Raises:
        UserError: permission, quota, or a setting that the service refuses.
        CloudFault: the service failed or could not be reached.
    """
    token = hashlib.sha256(model_uri.encode()).hexdigest()[:32]
    version = ensure_version(target, model_uri, token)
    deployed_id = make_deployed_id(token)
    endpoints = Endpoints(target.project, target.region, STEP_ROLE)
    endpoint_id = f"e-{hashlib.sha256(target.name.encode()).hexdigest()[:16]}"
    found = endpoints.ensure(_make_endpoint(target), endpoint_id, CREATE_SECONDS)
    deployed = _make_deployed_model(target, version, deployed_id)
    traffic = split_traffic(found, target.traffic_percent)
    endpoint = endpoints.deploy(found, deployed, traffic, target.deploy_seconds)
    undeployed = _undeploy_unused(endpoints, target, endpoint, deployed_id)
    return Deployment(
        endpoint=endpoint.name,
        version=version.version_id,
        traffic={key: share for key, share in endpoint.traffic_split.items() if share},
        deployed_id=deployed_id,
        undeployed=tuple(undeployed),
        notes=tuple(_compare(target, found)),
    )


def split_traffic(endpoint: vertex.Endpoint, percent: int) -> dict[str, int]:
    """Returns the shares that a new model's deployment asks for.

    A canary leaves at most two models: an earlier canary, whose verdict nobody waited for, gets nothing any more, or
    else each push would add a machine that is paid for.

    Args:
        endpoint: as it is.
        percent: the new model's share, 1 to 100.

    Returns:
        Percent by deployed model, 100 in all; `"0"` is the new one.
    """
    shares = {model.id: endpoint.traffic_split.get(model.id, 0) for model in endpoint.deployed_models}
    stable = max(shares, key=lambda key: (shares[key], key), default=None)
    if stable is None or not shares[stable] or percent == 100:
        return {NEW: 100}
    return {NEW: percent, stable: 100 - percent}


def make_deployed_id(push: str) -> str:
    """Returns a push's id among the deployed models, ten digits of our own: a second try of its deployment is refused.

    Args:
        push: the label of its version, hexadecimal.
    """
    return str(10**9 + int(push, 16) % (9 * 10**9))


def _make_endpoint(target: EndpointTarget) -> vertex.Endpoint:
    endpoint = vertex.Endpoint(
        display_name=target.name,
        labels=target.labels,
        encryption_spec=make_encryption(target),
        dedicated_endpoint_enabled=target.kind == "dedicated",
    )
    if target.request_log:
        endpoint.predict_request_response_logging_config = vertex.PredictRequestResponseLoggingConfig(
            enabled=True,
            sampling_rate=1.0,
            bigquery_destination=vertex.BigQueryDestination(output_uri=target.request_log),
        )
    return endpoint


def _compare(target: EndpointTarget, endpoint: vertex.Endpoint) -> Iterator[str]:
    """Yields in what an endpoint that was there before is not what was asked for: neither can be changed."""
    if endpoint.dedicated_endpoint_enabled != (target.kind == "dedicated"):
        yield f"endpoint {target.name} is there, and stays {describe_kind(endpoint)}"
    logging = endpoint.predict_request_response_logging_config
    found = logging.bigquery_destination.output_uri if logging.enabled else None
    if found != target.request_log:
        yield f"endpoint {target.name} is there, and {f'logs requests to {found}' if found else 'logs no requests'}"


def _make_deployed_model(target: EndpointTarget, version: vertex.Model, deployed_id: str) -> vertex.DeployedModel:
    machine = vertex.MachineSpec(machine_type=target.machine_type)
    if target.accelerator_type:
        machine.accelerator_type = vertex.AcceleratorType[target.accelerator_type]
        machine.accelerator_count = target.accelerator_count
    return vertex.DeployedModel(
        id=deployed_id,
        model=f"{version.name.partition('@')[0]}@{version.version_id}",
        display_name=f"{target.model_id}-{version.version_id}",
        service_account=target.service_account or "",
        dedicated_resources=vertex.DedicatedResources(
            machine_spec=machine, min_replica_count=target.min_replicas, max_replica_count=target.max_replicas
        ),
    )


def _undeploy_unused(endpoints: Endpoints, target: EndpointTarget, endpoint: vertex.Endpoint, own: str) -> list[str]:
    """Takes off every other version of the same model that gets no traffic, and returns their ids.

    Somebody else's models on the endpoint are left alone.
    """
    unused = [
        model
        for model in endpoint.deployed_models
        if model.id != own and not has_traffic(endpoint, model.id) and model_of(model) == target.model_id
    ]
    for model in unused:
        endpoints.undeploy(endpoint, model, target.deploy_seconds)
    return [model.id for model in unused]
