"""What the stand-in of Vertex AI does with models and endpoints, as long operations that end some looks later."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2

from tests.vertex_stand_in import DEDICATED_DOMAIN, ServiceError


@dataclass
class _Operation:
    """Something under way: after so many looks it has its effect, or its failure."""

    looks: int
    effect: Callable[[], Any]
    result: Any = None
    error: status_pb2.Status | None = None


@dataclass
class VertexServing:
    """Plays ModelService, EndpointService and the operations that they start.

    Attributes:
        versions: of each model, the oldest first, by the model's resource name.
        endpoints: by resource name.
        operation_looks: how many looks at anything an operation takes.
        failures: code and message of the next operations of a method, in place of their effect.
    """

    versions: dict[str, list[vertex.Model]] = field(default_factory=dict)
    endpoints: dict[str, vertex.Endpoint] = field(default_factory=dict)
    operation_looks: int = 2
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    operations: dict[str, _Operation] = field(default_factory=dict)

    def GetOperation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        self._look()
        operation = self.operations[request.name]
        shown = operations_pb2.Operation(name=request.name, done=operation.looks <= 0)
        if operation.error is not None:
            shown.error.CopyFrom(operation.error)
        elif operation.result is not None:
            message = type(operation.result).pb(operation.result)
            packed = any_pb2.Any()
            packed.Pack(message)
            shown.response.CopyFrom(packed)
        return shown

    def ListModelVersions(self, request: vertex.ListModelVersionsRequest) -> vertex.ListModelVersionsResponse:
        self._look()
        wanted = re.fullmatch(r'(?:labels\.(\w+)="(.*)")?', request.filter)
        assert wanted, request.filter
        if request.name not in self.versions:
            raise ServiceError("NOT_FOUND", f"Model {request.name} is not found.")
        models = [
            model
            for model in self.versions[request.name]
            if wanted[1] is None or model.labels.get(wanted[1]) == wanted[2]
        ]
        # Pages of two, whatever is asked for; with a filter the first has nothing.
        start = int(request.page_token or (-2 if request.filter else 0))
        token = str(start + 2) if start + 2 < len(models) else ""
        some = models[start : start + 2] if start >= 0 else []
        return vertex.ListModelVersionsResponse(models=some, next_page_token=token)

    def GetModel(self, request: vertex.GetModelRequest) -> vertex.Model:
        name, _, version = request.name.partition("@")
        return self.versions[name][int(version) - 1]

    def UpdateModel(self, request: vertex.UpdateModelRequest) -> vertex.Model:
        name, _, version = request.model.name.partition("@")
        assert version, "without a version it is the model that changes"
        model = self.versions[name][int(version) - 1]
        for path in request.update_mask.paths:
            assert path in ("labels", "version_description")
            setattr(model, path, getattr(request.model, path))
        return model

    def UploadModel(self, request: vertex.UploadModelRequest) -> operations_pb2.Operation:
        assert bool(request.parent_model) != bool(request.model_id), "either a new model or a version of one"
        name = request.parent_model or f"{request.parent}/models/{request.model_id}"
        if request.model_id and (name in self.versions or self._under_way(name)):
            raise ServiceError("ALREADY_EXISTS", f"Model {name} already exists.")

        def effect() -> vertex.UploadModelResponse:
            versions = self.versions.setdefault(name, [])
            model = vertex.Model(request.model)
            model.name, model.version_id = name, str(len(versions) + 1)
            versions.append(model)
            return vertex.UploadModelResponse(model=name, model_version_id=model.version_id)

        return self._start("UploadModel", name, effect)

    def ListEndpoints(self, request: vertex.ListEndpointsRequest) -> vertex.ListEndpointsResponse:
        self._look()
        wanted = re.fullmatch(r'display_name="(.*)"', request.filter)
        assert wanted, request.filter
        found = [endpoint for endpoint in self.endpoints.values() if endpoint.display_name == wanted[1]]
        if found and not request.page_token:  # A page may have nothing, and a next one.
            return vertex.ListEndpointsResponse(next_page_token="1")
        return vertex.ListEndpointsResponse(endpoints=found)

    def GetEndpoint(self, request: vertex.GetEndpointRequest) -> vertex.Endpoint:
        self._look()
        if request.name not in self.endpoints:
            raise ServiceError("NOT_FOUND", f"{request.name} is not found.")
        return self.endpoints[request.name]

    def CreateEndpoint(self, request: vertex.CreateEndpointRequest) -> operations_pb2.Operation:
        name = f"{request.parent}/endpoints/{request.endpoint_id}"
        if name in self.endpoints or self._under_way(name):
            raise ServiceError("ALREADY_EXISTS", f"Endpoint {name} already exists.")

        def effect() -> vertex.Endpoint:
            endpoint = vertex.Endpoint(request.endpoint)
            endpoint.name, endpoint.etag = name, "1"
            if endpoint.dedicated_endpoint_enabled:
                endpoint.dedicated_endpoint_dns = f"{request.endpoint_id}.{DEDICATED_DOMAIN}"
            self.endpoints[name] = endpoint
            return endpoint

        return self._start("CreateEndpoint", name, effect)

    def UpdateEndpoint(self, request: vertex.UpdateEndpointRequest) -> vertex.Endpoint:
        endpoint = self.endpoints[request.endpoint.name]
        assert list(request.update_mask.paths) == ["traffic_split"]
        traffic = dict(request.endpoint.traffic_split)
        if request.endpoint.etag != endpoint.etag:
            raise ServiceError("ABORTED", "The etag is not the current one.")
        if sum(traffic.values()) != 100 or not set(traffic) <= {model.id for model in endpoint.deployed_models}:
            raise ServiceError("INVALID_ARGUMENT", f"traffic_split {traffic} is wrong.")
        endpoint.traffic_split = traffic
        _changed(endpoint)
        return endpoint

    def DeployModel(self, request: vertex.DeployModelRequest) -> operations_pb2.Operation:
        endpoint = self.endpoints[request.endpoint]
        name = f"{request.endpoint}/deployedModels/{request.deployed_model.id}"
        known = {model.id for model in endpoint.deployed_models}
        if request.deployed_model.id in known or self._under_way(name):
            raise ServiceError("ALREADY_EXISTS", f"{name} already exists.")
        if sum(request.traffic_split.values()) != 100 or not set(request.traffic_split) <= {"0", *known}:
            raise ServiceError("INVALID_ARGUMENT", f"traffic_split {dict(request.traffic_split)} is wrong.")

        def effect() -> vertex.DeployModelResponse:
            endpoint.deployed_models.append(request.deployed_model)
            new = request.deployed_model.id
            endpoint.traffic_split = {key if key != "0" else new: v for key, v in request.traffic_split.items()}
            _changed(endpoint)
            return vertex.DeployModelResponse(deployed_model=request.deployed_model)

        return self._start("DeployModel", name, effect)

    def UndeployModel(self, request: vertex.UndeployModelRequest) -> operations_pb2.Operation:
        endpoint = self.endpoints[request.endpoint]
        if request.deployed_model_id not in {model.id for model in endpoint.deployed_models}:
            raise ServiceError("NOT_FOUND", f"{request.deployed_model_id} is not deployed.")
        if endpoint.traffic_split.get(request.deployed_model_id, 0):
            raise ServiceError("FAILED_PRECONDITION", f"{request.deployed_model_id} has traffic.")

        def effect() -> vertex.UndeployModelResponse:
            endpoint.deployed_models = [m for m in endpoint.deployed_models if m.id != request.deployed_model_id]
            _changed(endpoint)
            return vertex.UndeployModelResponse()

        return self._start("UndeployModel", request.endpoint, effect)

    def _start(self, method: str, owner: str, effect: Callable[[], Any]) -> operations_pb2.Operation:
        name = f"{owner}/operations/{len(self.operations) + 1}"
        operation = _Operation(self.operation_looks, effect)
        if method in self.failures:
            code, message = self.failures.pop(method)
            operation.error = status_pb2.Status(code=code, message=message)
        self.operations[name] = operation
        return operations_pb2.Operation(name=name)

    def _under_way(self, owner: str) -> bool:
        """Returns whether something of that name is being made; a failed one's name is free again."""
        return any(
            key.startswith(f"{owner}/operations/") and operation.looks > 0 for key, operation in self.operations.items()
        )

    def _look(self) -> None:
        for operation in self.operations.values():
            operation.looks -= 1
            if operation.looks == 0 and operation.error is None:
                operation.result = operation.effect()


def _changed(endpoint: vertex.Endpoint) -> None:
    endpoint.etag = str(int(endpoint.etag or 0) + 1)
