"""The versions of a model that an endpoint of Vertex AI serves, as `pipeline.rollbacks` moves them."""

import hashlib
import json

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import field_mask_pb2

from components.evaluator.rollback import Rollback
from components.google_cloud.calls import call, list_pages, make_client
from components.google_cloud.endpoint_deployment import make_deployed_id
from components.google_cloud.endpoint_target import ONLY_VERSION
from components.google_cloud.endpoints import NEW, Endpoints, has_traffic, version_of
from components.google_cloud.model_version import PUSH_LABEL, takes_versions
from data.errors import UserError
from pipeline.rollbacks import Journal
from pipeline.version_changes import ROLLBACK

ROLLBACK_LABEL = "rollback"
"""Label of a version: `rollback` or `promote` while that is under way, `done` of one that was rolled back."""

DEPLOY_SECONDS = 3600.0

_DONE = "done"
_MARK = "rolled back "  # Before the record in a version's description, whatever else stands there.
_MOVED = "moved"
_FIELDS = ("dedicated_resources", "automatic_resources", "service_account", "disable_container_logging")


class EndpointVersions:
    """The registry's versions of the model that an endpoint serves, and their traffic.

    A version's record is its label and its description in the registry. Of the versions, those count that are no newer
    than the newest with traffic: a push that failed on its way has a version that nobody asked yet.

    Attributes:
        endpoint: as it was when it was last looked at.
        model: resource name of the model.
    """

    def __init__(self, endpoints: Endpoints, name: str) -> None:
        """Looks.

        Args:
            endpoints: of the project.
            name: the endpoint's.

        Raises:
            UserError: there is no such endpoint, or it serves no model, or several; or as `call`.
            CloudFault: as `call`.
        """
        found = find_endpoint(endpoints, name)
        self.endpoint, self._endpoints, self._name = found, endpoints, name
        models = sorted({deployed.model.partition("@")[0] for deployed in found.deployed_models})
        if len(models) != 1:
            has = f"has models of {len(models)} names ({', '.join(map(_last, models))})" if models else "has no model"
            raise UserError(f"endpoint {name}: {has}; only where it has one is it known what to roll back")
        self.model = models[0]
        self.versions = self._list_versions()

    @property
    def root(self) -> str:
        """What messages call it."""
        return f"endpoint {self._name}"

    def list(self) -> tuple[list[int], list[int]]:
        """Returns the versions that may be served, of which the first has traffic, and those that were rolled back."""
        busy = [int(version_of(one)) for one in self.endpoint.deployed_models if has_traffic(self.endpoint, one.id)]
        aside = [number for number in self.read_journal().aside if number not in busy]
        served = [number for number in self.versions if number not in aside and number <= max(busy, default=0)]
        return sorted(served, reverse=True), sorted(aside, reverse=True)

    def same_model(self, first: int, second: int) -> bool:
        """Says whether two versions are copies of one model.

        Raises:
            UserError: their files cannot be read.
        """
        import tensorflow as tf

        from components.exported_model.fingerprint import is_same_export

        try:
            return is_same_export(*(_model_folder(self.versions[number]) for number in (first, second)))
        except tf.errors.OpError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"versions {first} and {second}: their files cannot be read: {reason}; grant roles/storage.objectUser "
                "on the bucket to whoever runs this command"
            ) from None

    def served_path(self, number: int) -> str:
        """Returns the place that the version was pushed to."""
        return self.versions[number].artifact_uri

    def aside_path(self, number: int) -> str:
        """Returns its name in the registry."""
        return f"{self.model}@{number}"

    def read_journal(self) -> Journal:
        """Returns what the registry says was rolled back, and what is under way."""
        marked = {number: one for number, one in self.versions.items() if one.labels.get(ROLLBACK_LABEL)}
        acts = {number: one.labels[ROLLBACK_LABEL] for number, one in marked.items()}
        aside = {number: _read_record(one)[0] for number, one in marked.items()}
        under_way = {number for number, act in acts.items() if act != _DONE}
        act = acts[min(under_way)] if under_way else ""
        # What broke off between the marks has left some versions without: each mark names all that move together.
        for number in sorted(under_way):
            for other in self.versions.keys() & _read_record(marked[number])[1] - marked.keys():
                aside[other] = aside[number]
                under_way.add(other)
        return Journal(aside, act, tuple(sorted(under_way)))

    def begin(self, journal: Journal) -> None:
        """Deploys the version that is to be served, without traffic, and records what is about to be done."""
        self._deploy(self._choose(journal))
        self.write_journal(journal)

    def write_journal(self, journal: Journal) -> None:
        """Writes label and description of each version whose state is another one."""
        for number, version in self.versions.items():
            state = journal.act if number in journal.versions else _DONE if number in journal.aside else ""
            if version.labels.get(ROLLBACK_LABEL, "") != state:
                self._mark(number, state, journal.aside.get(number), journal.versions)

    def set_aside(self, number: int) -> None:
        """Gives the traffic to the newest version that was not rolled back, and takes the others off."""
        journal = self.read_journal()
        self.write_journal(journal)
        self._serve(self._choose(journal))

    def bring_back(self, number: int) -> None:
        """Gives the traffic to the newest version, this one being none that was rolled back any more."""
        self._serve(self._choose(self.read_journal()))

    def deployed(self, number: int) -> vertex.DeployedModel | None:
        """Returns a version's deployment, or None."""
        return next((one for one in self.endpoint.deployed_models if version_of(one) == str(number)), None)

    def _choose(self, journal: Journal) -> int:
        """Returns the version that is served once what is under way is done."""
        moved = set(journal.versions)
        away = set(journal.aside) - moved if journal.act != ROLLBACK else set(journal.aside)
        busy = [int(version_of(one)) for one in self.endpoint.deployed_models if has_traffic(self.endpoint, one.id)]
        newest = max([*busy, *(moved if journal.act != ROLLBACK else ())], default=0)
        return max(number for number in self.versions if number not in away and number <= newest)

    def _deploy(self, number: int) -> None:
        """Deploys a version on such machines as now answer, without traffic, unless it is there."""
        self.endpoint = self._endpoints.get(self.endpoint)
        if self.deployed(number) is not None:
            return
        shares = {key: share for key, share in self.endpoint.traffic_split.items() if share}
        pattern = max(self.endpoint.deployed_models, key=lambda one: shares.get(one.id, 0))
        push = self.versions[number].labels.get(PUSH_LABEL) or hashlib.sha256(f"{number}".encode()).hexdigest()[:32]
        deployed = vertex.DeployedModel(
            id=make_deployed_id(push),
            model=f"{self.model}@{number}",
            display_name=f"{_last(self.model)}-{number}",
            **{field: getattr(pattern, field) for field in _FIELDS if field in pattern},
        )
        self.endpoint = self._endpoints.deploy(self.endpoint, deployed, shares or {NEW: 100}, DEPLOY_SECONDS)

    def _serve(self, number: int) -> None:
        """Deploys a version, gives it all traffic, and takes off the others: they cost money and answer nothing."""
        self._deploy(number)
        chosen = self.deployed(number)
        assert chosen is not None, number
        self.endpoint = self._endpoints.route(self.endpoint, {chosen.id: 100})
        for other in self.endpoint.deployed_models:
            if other.id != chosen.id:
                self._endpoints.undeploy(self.endpoint, other, DEPLOY_SECONDS)
        self.endpoint = self._endpoints.get(self.endpoint)

    def _list_versions(self) -> dict[int, vertex.Model]:
        client = make_client(vertex.ModelServiceClient, self._endpoints.region, self._endpoints.api_endpoint)
        request = vertex.ListModelVersionsRequest(name=self.model)
        doing = f"listing the versions of {_last(self.model)}"
        pages = list_pages(client.list_model_versions, request, doing=doing, role=self._endpoints.role)
        return dict(sorted((int(one.version_id), one) for page in pages for one in page.models))

    def _mark(self, number: int, state: str, why: Rollback | None, moved: tuple[int, ...]) -> None:
        version = self.versions[number]
        labels = {key: value for key, value in version.labels.items() if key != ROLLBACK_LABEL}
        text = version.version_description.partition(_MARK)[0]
        if state:
            labels[ROLLBACK_LABEL] = state
        if why is not None:
            text += _MARK + json.dumps({**why.to_json(), _MOVED: moved}, ensure_ascii=False)
        request = vertex.UpdateModelRequest(
            model=vertex.Model(name=self.aside_path(number), labels=labels, version_description=text),
            update_mask=field_mask_pb2.FieldMask(paths=["labels", "version_description"]),
        )
        client = make_client(vertex.ModelServiceClient, self._endpoints.region, self._endpoints.api_endpoint)
        doing = f"recording it with version {number} of {_last(self.model)}"
        self.versions[number] = call(client.update_model, request, doing=doing, role=self._endpoints.role)


def find_endpoint(endpoints: Endpoints, name: str) -> vertex.Endpoint:
    """Returns the endpoint of a display name.

    Raises:
        UserError: there is none, or as `Endpoints.find`.
    """
    found = endpoints.find(name)
    if found is None:
        raise UserError(
            f"endpoint {name}: there is none in {endpoints.parent}; give its display name, and the project and region "
            "that have it"
        )
    return found


def _read_record(version: vertex.Model) -> tuple[Rollback, set[int]]:
    """Returns why a version is set aside, and all that move together with it while that is under way."""
    text = version.version_description.partition(_MARK)[2]
    try:
        record = json.loads(text)
        moved = {int(number) for number in record.pop(_MOVED, ())}
        return Rollback(**record), moved
    except (ValueError, TypeError, AttributeError):  # Somebody edited it; that it was rolled back the label says.
        return Rollback(reason=text, by="", at=""), set()


def _model_folder(version: vertex.Model) -> str:
    """Returns the folder of a version's SavedModel, which for TensorFlow Serving lies one deeper."""
    return f"{version.artifact_uri}/{ONLY_VERSION}" if takes_versions(version) else version.artifact_uri


def _last(name: str) -> str:
    return name.rpartition("/")[2]
