"""Whether the endpoint that a run pushes to is there, and of which kind: it stays what it is. Needs credentials."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.google_cloud.endpoint_target import Kind
from pipeline.finding import Finding, Level
from pipeline.vertex.rest import reason_of
from pipeline.vertex.settings import VertexSettings

if TYPE_CHECKING:
    from pipeline.vertex.cloud_check import Session

_TIMEOUT_SECONDS = 30


def check_endpoint(settings: VertexSettings, session: "Session") -> Iterator[Finding]:
    """Asks for the endpoint of that name; nothing where a run pushes to a folder."""
    wanted = settings.endpoint
    if not wanted.name:
        return
    parent = f"projects/{settings.project}/locations/{settings.region}"
    url = f"https://{settings.region}-aiplatform.googleapis.com/v1/{parent}/endpoints"
    params, found = {"filter": f'display_name="{wanted.name}"'}, []
    while True:  # Any page may be empty, and not be the last.
        answer = session.get(url, params=params, timeout=_TIMEOUT_SECONDS)
        page = answer.json()
        if answer.status_code != 200:
            yield Finding("warning", "endpoint", f"{wanted.name} cannot be looked at: {reason_of(page)}")
            return
        found += page.get("endpoints", [])
        if not page.get("nextPageToken"):
            break
        params["pageToken"] = page["nextPageToken"]
    if len(found) > 1:
        yield Finding("error", "endpoint", f"{len(found)} are called {wanted.name}; rename or delete all but one")
    elif not found:
        yield Finding("ok", "endpoint", f"{wanted.name} is not there yet: the first push makes it, {wanted.kind}")
    else:
        kind: Kind = "dedicated" if found[0].get("dedicatedEndpointEnabled") else "shared"
        level: Level = "ok" if kind == wanted.kind else "warning"
        stays = "" if kind == wanted.kind else f", and stays so: endpoint.kind is {wanted.kind}, for a new one"
        text = f"{wanted.name} is there, {kind}{stays}, with {len(found[0].get('deployedModels', []))} models deployed"
        yield Finding(level, "endpoint", text)
