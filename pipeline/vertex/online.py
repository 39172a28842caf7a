"""Asks an endpoint of Vertex AI about images, as `pipeline.predict` asks a model of this machine."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from PIL import Image

from components.exported_model.loaded import ModelAnswer
from components.google_cloud.calls import ROLE, CloudFault, call
from components.google_cloud.endpoint_target import REQUEST_BYTES, REQUEST_SECONDS, Kind
from components.google_cloud.endpoints import Endpoints, has_traffic, version_of
from components.google_cloud.model_version import takes_files
from data.bit_depth import WHOLE
from data.errors import UserError
from data.image_check import store_picture
from data.picture import UnusableImage, read_picture
from pipeline.vertex.cloud import Cloud
from pipeline.vertex.endpoint_versions import find_endpoint
from pipeline.vertex.rest import Session, open_session, reason_of, send

AT_A_TIME = 8
"""Requests that are under way at once."""

_JSON_BYTES = 200  # Of a request about one picture, without the picture.
_LEAST_SIDE = 64
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Online:
    """An endpoint that can be asked.

    Attributes:
        name: its display name.
        kind: which limits it has.
        url: of its resource, without the method.
        takes_files: whether all that answers there is the pipeline's own server.
        served: the versions with traffic, for a person.
    """

    name: str
    kind: Kind
    url: str
    takes_files: bool
    served: str

    @property
    def limit(self) -> str:
        """How much it takes, for a person."""
        return f"{REQUEST_BYTES[self.kind] / 1e6:g} MB a request ({self.kind})"


def find_online(cloud: Cloud, name: str) -> Online:
    """Finds an endpoint and what answers there.

    Raises:
        UserError: there is none, it answers nothing or not from here; or as `call`.
        CloudFault: as `call`.
    """
    endpoint = find_endpoint(Endpoints(cloud.project, cloud.region, ROLE, cloud.api_endpoint), name)
    if endpoint.network or endpoint.private_service_connect_config.enable_private_service_connect:
        raise UserError(f"endpoint {name}: is a private one, which this command does not reach")
    served = [one for one in endpoint.deployed_models if has_traffic(endpoint, one.id)]
    if not served:
        raise UserError(f"endpoint {name}: no model that is deployed there gets requests; deploy one first")
    kind: Kind = "dedicated" if endpoint.dedicated_endpoint_enabled else "shared"
    host = endpoint.dedicated_endpoint_dns.removeprefix("https://")
    if kind == "shared":
        host = cloud.api_endpoint or f"{cloud.region}-aiplatform.googleapis.com"
    elif not host:
        raise UserError(f"endpoint {name}: has no address yet; ask again in some minutes")
    models = cloud.client(vertex.ModelServiceClient)
    asked_as_is = []
    for one in served:
        resource = f"{one.model.partition('@')[0]}@{version_of(one)}"
        request = vertex.GetModelRequest(name=resource)
        version = call(models.get_model, request, doing=f"looking up {resource}", role=ROLE)
        asked_as_is.append(takes_files(version))
    shares = (f"{version_of(one)} ({endpoint.traffic_split[one.id]} %)" for one in served)
    return Online(
        name,
        kind,
        f"https://{host}/v1/{endpoint.name}",
        takes_files=all(asked_as_is),
        served=", ".join(shares) if len(served) > 1 else version_of(served[0]),
    )


def ask(online: Online, images: Sequence[str], max_pixels: int, top_k: int | None) -> list[dict[str, Any]]:
    """Classifies image files.

    Args:
        online: who is asked.
        images: paths.
        max_pixels: the most pixels (height x width) of a picture that is prepared here.
        top_k: how many classes to return for each; None for all that are answered.

    Returns:
        As `pipeline.predict.predict`; where not the file itself was sent, `sent` says what was.

    Raises:
        UserError: permission, quota, no credentials, or `top_k` is beyond what the model answers.
        CloudFault: the endpoint failed or could not be reached.
    """
    session = open_session()

    def ask_one(image: str) -> dict[str, Any]:
        return {"image": image, **_ask_one(online, session, image, max_pixels, top_k)}

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(ask_one, images))


def _ask_one(online: Online, session: Session, image: str, max_pixels: int, top_k: int | None) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    try:
        encoded = Path(image).read_bytes()
        if online.takes_files:
            method, kind, body = "rawPredict", "application/octet-stream", encoded
        else:
            method, kind = "predict", "application/json"
            stored, note = _fit(encoded, max_pixels, _picture_bytes(online))
            sent = {"sent": note} if note else {}
            body = json.dumps({"instances": [{"b64": base64.b64encode(stored).decode()}]}).encode()
    except (OSError, UnusableImage) as error:
        return {"error": str((isinstance(error, OSError) and error.strerror) or error)}
    if len(body) > REQUEST_BYTES[online.kind]:
        return {
            "error": f"not sent: it has {len(body) / 1e6:.1f} MB, and endpoint {online.name} takes {online.limit}; "
            "send a smaller picture"
        }
    status, answer = send(
        session,
        "POST",
        f"{online.url}:{method}",
        doing=f"asking endpoint {online.name}",
        taken=(200, 400),
        data=body,
        headers={"Content-Type": kind},
        timeout=REQUEST_SECONDS[online.kind] + 10,
    )
    if status == 400:
        return {"error": reason_of(answer), **sent}
    found = _parse(answer)
    if top_k is not None and top_k > len(found.labels):
        raise UserError(f"--top-k {top_k}: this model answers at most {len(found.labels)} classes")
    return {**found.to_json(top_k), **sent}


def _picture_bytes(online: Online) -> int:
    """Returns how many bytes a file may have that becomes base64 in a request."""
    return (REQUEST_BYTES[online.kind] - _JSON_BYTES) // 4 * 3


def _fit(encoded: bytes, max_pixels: int, limit: int) -> tuple[bytes, str]:
    """Returns what TensorFlow Serving can decode of a file, in so many bytes, and what was done to it for that.

    Raises:
        UnusableImage: it is none.
    """
    read = read_picture(encoded, max_pixels)
    if read.peak is not None:
        raise UnusableImage(
            "16 bits a channel, of which TensorFlow Serving does not know how many count; convert it to 8 bits"
        )
    stored = store_picture(encoded, read)
    if len(stored.encoded) <= limit:
        return stored.encoded, ""
    picture = read.at(WHOLE)
    for width, height in _sizes(picture.size):
        buffer = io.BytesIO()
        smaller = picture if (width, height) == picture.size else picture.resize((width, height), Image.Resampling.BOX)
        smaller.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        if buffer.tell() <= limit:
            shrunk = f", shrunk from {picture.width} x {picture.height}" if smaller is not picture else ""
            return buffer.getvalue(), f"a JPEG of {width} x {height} pixels{shrunk}, to fit into the request"
    raise UnusableImage("too large for a request, however small the picture")


def _sizes(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields a size and smaller ones of the same shape, each of about half the pixels."""
    width, height = size
    scale = 1.0
    while True:
        yield max(1, round(width * scale)), max(1, round(height * scale))
        scale /= 2**0.5
        if min(width, height) * scale < min(_LEAST_SIDE, *size):
            return


def _parse(content: Any) -> ModelAnswer:
    """Returns the answer to one picture, of the pipeline's server or of TensorFlow Serving.

    Raises:
        CloudFault: it is neither's.
    """
    try:
        if "predictions" not in content:
            ranked = content["top_k"]
            labels, probabilities = ([one[key] for one in ranked] for key in ("label", "probability"))
        else:
            (content,) = content["predictions"]
            labels, probabilities = content["labels"], content["probabilities"]
        return ModelAnswer(tuple(labels), tuple(probabilities), content.get("decision"), content.get("unknown_score"))
    except (KeyError, TypeError, ValueError, AttributeError):
        text = json.dumps(content)[:200]
        raise CloudFault(f"the endpoint answered what is no answer of a model of this pipeline: {text}") from None
