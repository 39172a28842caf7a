"""A model's way to a Vertex endpoint: a version in the registry, a deployment, its traffic, and the old one's end.

Every step looks first whether an earlier try has done it, so that a push whose connection broke, or whose node is run
again by the service, ends in one version and one deployment.
"""

import hashlib
from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import STEP_ROLE, call, ensure_made, finish, make_client
from components.google_cloud.endpoint_target import EndpointTarget
from components.google_cloud.model_version import ensure_version, make_encryption
from data.errors import UserError

CREATE_SECONDS = 600.0
_NEW = "0"  # How a request calls the model that it deploys.


@dataclass(frozen=True)
class Deployment:
    """What a push has led to.

    Attributes:
        endpoint: resource name.
        version: of the model in the registry.
        traffic: percent by the id of each model that is still deployed.
        deployed_id: the new model's id among them.
        undeployed: ids of the models that were taken off.
    """

    endpoint: str
    version: str
    traffic: dict[str, int]
    deployed_id: str
    undeployed: tuple[str, ...]

    def described(self) -> str:
        """Returns one line for people."""
        share = self.traffic.get(self.deployed_id, 0)
        gone = f", {len(self.undeployed)} replaced" if self.undeployed else ""
        return f"version {self.version} is deployed to {self.endpoint} with {share} % of the traffic{gone}"


def deploy(target: EndpointTarget, model_uri: str) -> Deployment:
    """Deploys a SavedModel.

    Args:
        target: where and on what.
        model_uri: `gs://` folder of the SavedModel; what is pushed is known by it again.

    Raises:
        UserError: permission, quota, or a setting that the service refuses.
        CloudFault: the service failed or could not be reached.
    """
    token = hashlib.sha256(model_uri.encode()).hexdigest()[:32]
    version = ensure_version(target, model_uri, token)
    # Ten digits of our own choice: the second try of a deployment that went through is then refused.
    deployed_id = str(10**9 + int(token, 16) % (9 * 10**9))
    endpoint = _ensure_deployed(target, _find_or_create_endpoint(target), version, deployed_id)
    undeployed = _undeploy_unused(target, endpoint, deployed_id)
    return Deployment(
        endpoint=endpoint.name,
        version=version.version_id,
        traffic={key: share for key, share in endpoint.traffic_split.items() if share},
        deployed_id=deployed_id,
        undeployed=tuple(undeployed),
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
        return {_NEW: 100}
    return {_NEW: percent, stable: 100 - percent}


def _find_or_create_endpoint(target: EndpointTarget) -> vertex.Endpoint:
    """Returns the endpoint of that display name.

    Raises:
        UserError: several have it.
    """
    endpoints = make_client(vertex.EndpointServiceClient, target.region)

    def find() -> vertex.Endpoint | None:
        request = vertex.ListEndpointsRequest(parent=target.parent, filter=f'display_name="{target.name}"')
        doing = f"looking for endpoint {target.name}"
        found = list(next(call(endpoints.list_endpoints, request, doing=doing, role=STEP_ROLE).pages).endpoints)
        if len(found) > 1:
            raise UserError(
                f"{len(found)} endpoints of {target.parent} are called {target.name!r}; rename or delete all but one: "
                + ", ".join(sorted(endpoint.name.rpartition("/")[2] for endpoint in found))
            )
        return found[0] if found else None

    request = vertex.CreateEndpointRequest(
        parent=target.parent,
        endpoint=vertex.Endpoint(
            display_name=target.name, labels=target.labels, encryption_spec=make_encryption(target)
        ),
        # An id of our own choice, for the same reason as the deployment's.
        endpoint_id=f"e-{hashlib.sha256(target.name.encode()).hexdigest()[:16]}",
    )
    doing = f"creating endpoint {target.name}"
    endpoint: vertex.Endpoint = ensure_made(
        find, endpoints.create_endpoint, request, doing=doing, seconds=CREATE_SECONDS, role=STEP_ROLE
    )
    return endpoint


def _ensure_deployed(
    target: EndpointTarget, endpoint: vertex.Endpoint, version: vertex.Model, deployed_id: str
) -> vertex.Endpoint:
    """Returns the endpoint with the version deployed to it."""
    machine = vertex.MachineSpec(machine_type=target.machine_type)
    if target.accelerator_type:
        machine.accelerator_type = vertex.AcceleratorType[target.accelerator_type]
        machine.accelerator_count = target.accelerator_count
    deployed = vertex.DeployedModel(
        id=deployed_id,
        model=f"{version.name.partition('@')[0]}@{version.version_id}",
        display_name=f"{target.model_id}-{version.version_id}",
        service_account=target.service_account or "",
        dedicated_resources=vertex.DedicatedResources(
            machine_spec=machine, min_replica_count=target.min_replicas, max_replica_count=target.max_replicas
        ),
    )
    request = vertex.DeployModelRequest(
        endpoint=endpoint.name,
        deployed_model=deployed,
        traffic_split=split_traffic(endpoint, target.traffic_percent),
    )
    endpoints = make_client(vertex.EndpointServiceClient, target.region)
    doing = f"deploying version {version.version_id} of {target.model_id} to endpoint {target.name}"

    def find() -> vertex.Endpoint | None:
        looking = vertex.GetEndpointRequest(name=endpoint.name)
        now = call(endpoints.get_endpoint, looking, doing=f"looking up endpoint {target.name}", role=STEP_ROLE)
        return now if any(model.id == deployed_id for model in now.deployed_models) else None

    deployed_to: vertex.Endpoint = ensure_made(
        find, endpoints.deploy_model, request, doing=doing, seconds=target.deploy_seconds, role=STEP_ROLE
    )
    return deployed_to


def _undeploy_unused(target: EndpointTarget, endpoint: vertex.Endpoint, deployed_id: str) -> list[str]:
    """Takes off every other version of the same model that gets no traffic, and returns their ids.

    Somebody else's models on the endpoint are left alone.
    """
    endpoints = make_client(vertex.EndpointServiceClient, target.region)
    unused = [
        model
        for model in endpoint.deployed_models
        if model.id != deployed_id
        and not endpoint.traffic_split.get(model.id, 0)
        and model.model.partition("@")[0].rpartition("/")[2] == target.model_id
    ]
    for model in unused:
        request = vertex.UndeployModelRequest(endpoint=endpoint.name, deployed_model_id=model.id)
        doing = f"undeploying {model.display_name or model.id} from endpoint {target.name}"
        try:
            started = call(endpoints.undeploy_model, request, doing=doing, role=STEP_ROLE, expected=(NotFound,))
        except NotFound:  # A first try, whose answer was lost, went through.
            continue
        finish(started, doing, target.deploy_seconds, STEP_ROLE)
    return [model.id for model in unused]
