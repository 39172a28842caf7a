"""Endpoints of Vertex AI: found, given a model and traffic, rid of a model; each is done once, however often tried."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import field_mask_pb2

from components.google_cloud.calls import (
    GIVE_UP_SECONDS,
    Role,
    call,
    ensure,
    ensure_made,
    finish,
    list_pages,
    make_client,
)
from data.errors import UserError

NEW = "0"
"""How a request calls the model that it deploys."""


@dataclass(frozen=True)
class Endpoints:
    """The endpoints of a project in a region.

    Attributes:
        project: its id or number.
        region: e.g. `us-central1`.
        role: what each call needs, of whom.
        api_endpoint: host in place of the region's public one.
    """

    project: str
    region: str
    role: Role
    api_endpoint: str | None = None

    @property
    def parent(self) -> str:
        """The resource that they belong to."""
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def client(self) -> vertex.EndpointServiceClient:
        """The service's client."""
        return make_client(vertex.EndpointServiceClient, self.region, self.api_endpoint)

    def find(self, name: str) -> vertex.Endpoint | None:
        """Returns the endpoint of a display name, or None.

        Raises:
            UserError: several have it, or as `call`.
            CloudFault: as `call`.
        """
        request = vertex.ListEndpointsRequest(parent=self.parent, filter=f'display_name="{name}"')
        doing = f"looking for endpoint {name}"
        pages = list_pages(self.client.list_endpoints, request, doing=doing, role=self.role)
        found = [endpoint for page in pages for endpoint in page.endpoints]
        if len(found) > 1:
            raise UserError(
                f"{len(found)} endpoints of {self.parent} are called {name!r}; rename or delete all but one: "
                + ", ".join(sorted(endpoint.name.rpartition("/")[2] for endpoint in found))
            )
        return found[0] if found else None

    def ensure(self, wanted: vertex.Endpoint, endpoint_id: str, seconds: float) -> vertex.Endpoint:
        """Returns the endpoint of that display name, made if there is none.

        Raises:
            UserError: the one that was made under this id has another name by now, or as `find`.
            CloudFault: as `call`.
        """
        doing = f"creating endpoint {wanted.display_name}"
        made = vertex.GetEndpointRequest(name=f"{self.parent}/endpoints/{endpoint_id}")

        def find() -> vertex.Endpoint | None:
            if (found := self.find(wanted.display_name)) is not None:
                return found
            try:
                mine = call(self.client.get_endpoint, made, doing=doing, role=self.role, expected=(NotFound,))
            except NotFound:
                return None
            if mine.display_name != wanted.display_name:
                raise UserError(
                    f"endpoint {endpoint_id}: was made as {wanted.display_name}, and is called {mine.display_name} now;"
                    " give it the former name back, or choose another endpoint.name"
                )
            return mine

        # An id of our own choice: the second try of a creation that went through is then refused.
        request = vertex.CreateEndpointRequest(parent=self.parent, endpoint=wanted, endpoint_id=endpoint_id)
        endpoint: vertex.Endpoint = ensure_made(
            find, self.client.create_endpoint, request, doing=doing, seconds=seconds, role=self.role
        )
        return endpoint

    def get(self, endpoint: vertex.Endpoint) -> vertex.Endpoint:
        """Returns an endpoint as it is now; errors as `call`."""
        request = vertex.GetEndpointRequest(name=endpoint.name)
        doing = f"looking up endpoint {endpoint.display_name}"
        found: vertex.Endpoint = call(self.client.get_endpoint, request, doing=doing, role=self.role)
        return found

    def deploy(
        self, endpoint: vertex.Endpoint, deployed: vertex.DeployedModel, traffic: Mapping[str, int], seconds: float
    ) -> vertex.Endpoint:
        """Returns the endpoint with a model deployed to it.

        Args:
            endpoint: as it was.
            deployed: the model, with an id, by which an earlier try is known again.
            traffic: percent by deployed model, 100 in all; `NEW` is this one.
            seconds: how long to wait for its machines.

        Raises:
            UserError | CloudFault: as `call`.
        """

        def find() -> vertex.Endpoint | None:
            now = self.get(endpoint)
            return now if any(model.id == deployed.id for model in now.deployed_models) else None

        request = vertex.DeployModelRequest(
            endpoint=endpoint.name, deployed_model=deployed, traffic_split=dict(traffic)
        )
        model, _, version = deployed.model.rpartition("/")[2].partition("@")
        doing = f"deploying version {version} of {model} to endpoint {endpoint.display_name}"
        deployed_to: vertex.Endpoint = ensure_made(
            find, self.client.deploy_model, request, doing=doing, seconds=seconds, role=self.role
        )
        return deployed_to

    def route(self, endpoint: vertex.Endpoint, traffic: Mapping[str, int]) -> vertex.Endpoint:
        """Returns the endpoint with this traffic.

        Another's change between the look and the change is not written over: the service compares the etag.

        Args:
            endpoint: as it was.
            traffic: percent by deployed model, 100 in all.

        Raises:
            UserError | CloudFault: as `call`.
        """
        wanted = {key: share for key, share in traffic.items() if share}
        doing = f"moving the traffic of endpoint {endpoint.display_name}"
        seen = endpoint

        def find() -> vertex.Endpoint | None:
            nonlocal seen
            seen = self.get(endpoint)
            return seen if {key: share for key, share in seen.traffic_split.items() if share} == wanted else None

        def change() -> None:
            request = vertex.UpdateEndpointRequest(
                endpoint=vertex.Endpoint(name=seen.name, traffic_split=wanted, etag=seen.etag),
                update_mask=field_mask_pb2.FieldMask(paths=["traffic_split"]),
            )
            call(self.client.update_endpoint, request, doing=doing, role=self.role, again=False)

        moved: vertex.Endpoint = ensure(find, change, doing, GIVE_UP_SECONDS, self.role)
        return moved

    def undeploy(self, endpoint: vertex.Endpoint, deployed: vertex.DeployedModel, seconds: float) -> None:
        """Takes a model off an endpoint; one that is off already is no error. Errors as `call`."""
        request = vertex.UndeployModelRequest(endpoint=endpoint.name, deployed_model_id=deployed.id)
        doing = f"undeploying {deployed.display_name or deployed.id} from endpoint {endpoint.display_name}"
        try:
            started = call(self.client.undeploy_model, request, doing=doing, role=self.role, expected=(NotFound,))
        except NotFound:  # A first try, whose answer was lost, went through.
            return
        finish(started, doing, seconds, self.role)


def has_traffic(endpoint: vertex.Endpoint, deployed_id: str) -> bool:
    """Says whether a deployed model gets requests."""
    return bool(endpoint.traffic_split.get(deployed_id, 0))


def model_of(deployed: vertex.DeployedModel) -> str:
    """Returns the id of a deployed model in the registry."""
    return deployed.model.partition("@")[0].rpartition("/")[2]


def version_of(deployed: vertex.DeployedModel) -> str:
    """Returns the version of a deployed model."""
    return deployed.model.partition("@")[2] or deployed.model_version_id


def describe_kind(endpoint: vertex.Endpoint) -> str:
    """Says in a few words what an endpoint takes."""
    if endpoint.dedicated_endpoint_enabled:
        return "dedicated: 10 MB a request"
    if endpoint.network or endpoint.private_service_connect_config.enable_private_service_connect:
        return "private"
    return "shared: 1.5 MB and 60 s a request"
