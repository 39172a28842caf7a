"""`predict --endpoint`: what is sent to which server, what fits, and what is told; over HTTPS to the real server."""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.google_cloud.endpoint_deployment import deploy
from components.google_cloud.endpoint_target import REQUEST_BYTES, EndpointTarget
from pipeline import predict as predict_command
from pipeline.predict import predict
from pipeline.serving.app import Routes
from tests.serving import Client, make_colour_model, paint, running
from tests.vertex_http import Asked, Web, standing_in_for_https
from tests.vertex_serving import VertexServing
from tests.vertex_stand_in import DEDICATED_DOMAIN, HOST, PARENT, PROJECT, REGION, Network, standing_in

FLAGS = ["--endpoint=shop", f"--project={PROJECT}", f"--region={REGION}"]
PREDICT_ROUTE = "/v1/endpoints/1:predict"
TENSORFLOW = {"container": "tensorflow_serving", "serving_image": "us-docker.pkg.dev/p/r/serving:2.19.1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_colour_model(tmp_path_factory.mktemp("online") / "colours" / "4", 4)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Client]:
    with running(
        model, routes=Routes("/healthy", PREDICT_ROUTE), max_bytes=32_000_000, max_pixels=89_000_000
    ) as client:
        yield client


@dataclass
class Platform:
    """Vertex AI, which hands requests on to the server that the model's version names.

    Attributes:
        server: the pipeline's own; it speaks TensorFlow Serving's language, too.
        web: over which it is asked.
        serving: what is deployed.
    """

    server: Client
    web: Web
    serving: VertexServing
    network: Network
    pictures: list[bytes] = field(default_factory=list)

    def push(self, **changes: Any) -> None:
        target = {
            "project": PROJECT,
            "region": REGION,
            "name": "shop",
            "model_id": "colours",
            "serving_image": "server:1",
        }
        deploy(EndpointTarget.model_validate({**target, **changes}), f"gs://b/{len(self.serving.operations)}")

    def answer(self, asked: Asked) -> tuple[int, Any]:
        (endpoint,) = self.serving.endpoints.values()
        kind = "dedicated" if endpoint.dedicated_endpoint_enabled else "shared"
        host = endpoint.dedicated_endpoint_dns or HOST
        path, _, method = asked.path.rpartition(":")
        assert (asked.host, path) == (host, f"/v1/{endpoint.name}")
        assert len(asked.body) <= REQUEST_BYTES[kind]  # type: ignore[index]
        if method == "predict":
            (one,) = json.loads(asked.body)["instances"]
            self.pictures.append(base64.b64decode(one["b64"]))
            tf.io.decode_image(self.pictures[-1])  # More it cannot.
        status, _, content = self.server.ask(
            "POST", PREDICT_ROUTE, asked.body, {"Content-Type": asked.headers["Content-Type"]}
        )
        return status, {**content, "deployedModelId": "1"} if method == "predict" else content


@pytest.fixture
def platform(server: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    web, network, serving = Web(), Network(), VertexServing()
    found = Platform(server, web, serving, network)
    web.answer = found.answer
    with standing_in(network, serving, monkeypatch, tmp_path), standing_in_for_https(web, monkeypatch, tmp_path):
        yield found


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def encode(size: tuple[int, int], file_format: str, **options: Any) -> bytes:
    """Returns noise on red, which compresses badly."""
    noise = np.random.default_rng(1).integers(0, 60, (*size[::-1], 3)) + np.array([190, 0, 0])
    buffer = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(buffer, file_format, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode((40, 20), "JPEG", exif=exif)


def test_our_server_gets_each_file_as_it_is_and_answers_as_the_model_does_here(
    platform: Platform, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push()
    files = {"red.png": paint("red"), "turned.jpg": turned(), "a.webp": encode((32, 32), "WEBP", lossless=True)}
    images = [write(tmp_path / name, content) for name, content in files.items()]
    assert predict_command.main([*FLAGS, "--json", *images]) == 0
    assert json.loads(capsys.readouterr().out) == predict(images, model)
    assert sorted(asked.body for asked in platform.web.asked) == sorted(files.values())
    assert {asked.path.rpartition(":")[2] for asked in platform.web.asked} == {"rawPredict"}
    assert all(asked.host.endswith(DEDICATED_DOMAIN) for asked in platform.web.asked)


def test_the_answer_is_printed_as_predict_prints_it(
    platform: Platform, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push()
    images = [write(tmp_path / "red.png", paint("red")), write(tmp_path / "bad.jpg", b"nothing")]
    assert predict_command.main([*FLAGS, "--top-k=2", *images]) == 2
    asked = capsys.readouterr().out.splitlines()
    assert predict_command.main(["--model", str(model), "--top-k=2", *images]) == 2
    here = capsys.readouterr().out.splitlines()
    assert asked[:-1] == here[:-1]
    assert asked[-1] == "endpoint shop, version 1; at most 10 MB a request (dedicated)"


def test_what_does_not_fit_is_told_and_not_sent(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push(kind="shared")
    large = write(tmp_path / "large.png", encode((900, 800), "PNG"))
    assert predict_command.main([*FLAGS, "--json", large, write(tmp_path / "red.png", paint("red"))]) == 2
    first, second = json.loads(capsys.readouterr().out)
    assert first["error"] == (
        "not sent: it has 1.8 MB, and endpoint shop takes 1.5 MB a request (shared); send a smaller picture"
    )
    assert second["label"] == "red"
    assert len(platform.web.asked) == 1


def test_tensorflow_serving_gets_a_picture_that_it_can_decode_shrunk_to_fit_and_that_is_said(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push(kind="shared", **TENSORFLOW)
    small = paint("red")
    images = [
        write(tmp_path / "red.png", small),
        write(tmp_path / "a.webp", encode((32, 32), "WEBP", lossless=True)),
        write(tmp_path / "large.png", encode((900, 800), "PNG")),
        write(tmp_path / "larger.png", encode((2000, 1400), "PNG")),
    ]
    assert predict_command.main([*FLAGS, "--json", *images]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["label"] for answer in answers] == ["red"] * 4
    assert [answer.get("sent") for answer in answers] == [
        None,
        None,
        "a JPEG of 900 x 800 pixels, to fit into the request",
        "a JPEG of 1414 x 990 pixels, shrunk from 2000 x 1400, to fit into the request",
    ]
    assert small in platform.pictures
    assert predict_command.main([*FLAGS, images[2]]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{images[2]}: sent as {answers[2]['sent']}"


def test_what_tensorflow_serving_cannot_know_is_refused(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push(**TENSORFLOW)
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(deep, "PNG")
    assert predict_command.main([*FLAGS, "--json", write(tmp_path / "deep.png", deep.getvalue())]) == 2
    assert "of which TensorFlow Serving does not know how many count" in json.loads(capsys.readouterr().out)[0]["error"]
    assert not platform.web.asked


def test_while_two_servers_answer_it_is_asked_what_both_understand(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push(**TENSORFLOW)
    platform.push(traffic_percent=20)
    assert predict_command.main([*FLAGS, write(tmp_path / "red.png", paint("red"))]) == 0
    assert platform.web.asked[0].path.endswith(":predict")
    assert "version 1 (80 %), 2 (20 %)" in capsys.readouterr().out


@pytest.mark.parametrize("status", [503, 429, None])
@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
def test_a_busy_endpoint_is_asked_again(status: int | None, after: bool, platform: Platform, tmp_path: Path) -> None:
    platform.push()
    platform.web.fail(status, times=2, after=after)
    assert predict_command.main([*FLAGS, write(tmp_path / "red.png", paint("red"))]) == 0
    assert len(platform.web.asked) == 3
    assert platform.network.naps[-2:] == [1, 2]


@pytest.mark.parametrize(
    ("status", "times", "exit_status", "message"),
    [
        (403, 1, 2, "asking endpoint shop: permission denied: no; grant roles/aiplatform.user to whoever runs this"),
        (401, 3, 2, "asking endpoint shop: no valid credentials (no); run `gcloud auth application-default login`"),
        (404, 1, 2, "asking endpoint shop: not found: no; check the project"),
        (503, 4, 1, "asking endpoint shop: the service could not be reached or did not answer for some time: no"),
        (None, 4, 1, "asking endpoint shop: could not be reached: "),
    ],
)
def test_what_goes_wrong_is_one_line(
    status: int | None,
    times: int,
    exit_status: int,
    message: str,
    platform: Platform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    platform.push()
    platform.web.fail(status, "no", times=times)
    assert predict_command.main([*FLAGS, write(tmp_path / "red.png", paint("red"))]) == exit_status
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--endpoint=shop", "--model=m"], "--endpoint shop: is asked in place of a model here; leave out --model"),
        (["--endpoint=shop", "--region=us-central1"], "project must be known; give --project"),
        ([*FLAGS, "--batch-size=3"], "--batch-size is for whole folders; give --out, or leave it out"),
        ([*FLAGS[1:], "--endpoint=none"], f"endpoint none: there is none in {PARENT}; give its display name"),
        ([*FLAGS, "--top-k=9"], "--top-k 9: this model answers at most 3 classes"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push()
    assert predict_command.main([*arguments, write(tmp_path / "red.png", paint("red"))]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_private_endpoint_and_an_empty_one_are_told(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.push()
    (endpoint,) = platform.serving.endpoints.values()
    endpoint.network = "projects/12/global/networks/net"
    assert predict_command.main([*FLAGS, "a.jpg"]) == 2
    assert "endpoint shop: is a private one" in capsys.readouterr().err
    endpoint.network, endpoint.traffic_split = "", {}
    assert predict_command.main([*FLAGS, "a.jpg"]) == 2
    assert "endpoint shop: no model that is deployed there gets requests" in capsys.readouterr().err
