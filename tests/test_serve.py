"""The server answers each dialect, refuses by 400, 413 and 503 alone, and survives garbage and broken connections."""

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import UserError
from pipeline.serving.app import Routes, Server
from pipeline.serving.limits import Limits
from pipeline.serving.model_source import ModelSource
from pipeline.serving.openapi import make_openapi
from tests.images import make_heic, make_huge_png, make_text
from tests.serving import COLOURS, SIZE, Client, b64, make_colour_model, paint, probability_of, running

MODEL = "/v1/models/colours"
VERSION = 3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serve") / "colours"
    make_colour_model(root / str(VERSION), VERSION)
    return root


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[Client]:
    routes = Routes(health="/vertex/health", predict="/vertex/predict")
    with running(models, routes=routes, max_images=6, max_queue=8, timeout_seconds=3) as client:
        yield client


def form(*files: tuple[str, bytes], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files
    ]
    body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@pytest.mark.parametrize("colour", COLOURS)
def test_an_image_as_it_is_gets_label_decision_and_version(client: Client, colour: str) -> None:
    status, headers, answer = client.predict(paint(colour))
    assert status == 200
    assert headers["x-model-version"] == str(VERSION)
    assert (answer["label"], answer["model_version"]) == (colour, VERSION)
    assert answer["probability"] == pytest.approx(probability_of(VERSION))
    assert answer["decision"] == ("" if colour == "blue" else colour)
    assert answer["unknown_score"] < 1
    assert answer["top_k"][0]["label"] == colour


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "application/x-image"])
@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_sagemaker_and_the_plain_address_take_any_image_type(client: Client, kind: str, path: str) -> None:
    status, _, answer = client.predict(make_heic(), path, kind)
    assert (status, answer["model_version"]) == (200, VERSION)


def test_a_form_of_images_answers_each_and_says_which_cannot_be_used(client: Client) -> None:
    body, headers = form(("a.png", paint("red")), ("no.jpg", make_text()), ("c.png", paint("blue")))
    status, _, answer = client.ask("POST", "/predict", body, headers)
    assert status == 200
    first, second, third = answer["predictions"]
    assert (first["image"], first["label"]) == ("a.png", "red")
    assert second["image"] == "no.jpg"
    assert "web page" in second["error"]
    assert third["label"] == "blue"


@pytest.mark.parametrize("shape", ["shorthand", "named"])
@pytest.mark.parametrize("path", [f"{MODEL}:predict", f"{MODEL}/versions/{VERSION}:predict", "/invocations"])
def test_rows_are_answered_in_rows(client: Client, shape: str, path: str) -> None:
    images = [b64(paint(colour)) for colour in COLOURS]
    instances = images if shape == "shorthand" else [{"image_bytes": image} for image in images]
    status, headers, answer = client.send_json(path, {"signature_name": "serving_default", "instances": instances})
    assert (status, headers["x-model-version"]) == (200, str(VERSION))
    assert list(answer) == ["predictions"]
    assert [row["labels"][0] for row in answer["predictions"]] == list(COLOURS)
    assert set(answer["predictions"][0]) == {"labels", "probabilities", "decision", "unknown_score"}


@pytest.mark.parametrize("shape", ["shorthand", "named"])
def test_columns_are_answered_in_columns(client: Client, shape: str) -> None:
    images = [b64(paint(colour)) for colour in COLOURS]
    inputs = images if shape == "shorthand" else {"image_bytes": images}
    status, _, answer = client.send_json(f"{MODEL}:predict", {"inputs": inputs})
    assert status == 200
    assert list(answer) == ["outputs"]
    assert [labels[0] for labels in answer["outputs"]["labels"]] == list(COLOURS)
    assert answer["outputs"]["decision"] == ["red", "green", ""]


def test_inputs_of_the_model_are_answered_without_decoding(client: Client) -> None:
    pixels = np.zeros((SIZE, SIZE, 3), int)
    pixels[..., 1] = 255
    request = {"signature_name": "serving_pixels", "instances": [pixels.tolist(), [[1]], (pixels * 2).tolist()]}
    status, _, answer = client.send_json(f"{MODEL}:predict", request)
    assert status == 200
    good, shape, beyond = answer["predictions"]
    assert good["labels"][0] == "green"
    assert shape["error"] == beyond["error"] == "pixels must be whole numbers, 0 to 255, in the shape [16, 16, 3]"


def test_a_bad_picture_has_its_reason_in_its_place_and_its_neighbours_their_answers(client: Client) -> None:
    images = [b64(paint("red")), b64(make_text()), {"b64": "@@@@"}, b64(paint("blue"))]
    _, _, rows = client.send_json(f"{MODEL}:predict", {"instances": images})
    assert [row.get("labels", [None])[0] for row in rows["predictions"]] == ["red", None, None, "blue"]
    assert "web page" in rows["predictions"][1]["error"]
    assert "base64" in rows["predictions"][2]["error"]
    status, _, columns = client.send_json(f"{MODEL}:predict", {"inputs": images})
    assert status == 200
    assert [len(labels) for labels in columns["outputs"]["labels"]] == [3, 0, 0, 3]
    assert [bool(error) for error in columns["errors"]] == [False, True, True, False]


def test_base64_may_have_line_breaks_or_the_letters_of_addresses(client: Client) -> None:
    text = b64(paint("green"))["b64"]
    assert "+" in text or "/" in text
    broken = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for variant in (broken, text.replace("+", "-").replace("/", "_")):
        _, _, answer = client.send_json(f"{MODEL}:predict", {"instances": [{"b64": variant}]})
        assert answer["predictions"][0]["labels"][0] == "green"


def test_vertex_ai_is_answered_at_the_addresses_that_it_gives(client: Client) -> None:
    assert client.ask("GET", "/vertex/health")[0] == 200
    request = {"instances": [b64(paint("red"))], "parameters": {"confidence": 0.5}}
    status, headers, answer = client.send_json("/vertex/predict", request)
    assert (status, headers["x-model-version"]) == (200, str(VERSION))
    assert list(answer) == ["predictions"]  # The platform adds deployedModelId and the like.
    assert client.predict(paint("blue"), "/vertex/predict")[2]["label"] == "blue"


def test_status_and_metadata_are_those_of_tensorflow_serving(client: Client) -> None:
    for path in (MODEL, f"{MODEL}/versions/{VERSION}"):
        (told,) = client.ask("GET", path)[2]["model_version_status"]
        assert (told["version"], told["state"], told["status"]["error_code"]) == (str(VERSION), "AVAILABLE", "OK")
    metadata = client.ask("GET", f"{MODEL}/metadata")[2]
    assert metadata["model_spec"] == {"name": "colours", "signature_name": "", "version": str(VERSION)}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "serving_pixels"}
    assert signatures["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signatures["serving_default"]["outputs"]["probabilities"]["tensor_shape"]["dim"][0]["size"] == "-1"


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (f"{MODEL}:predict", b"", "is no JSON"),
        (f"{MODEL}:predict", b"\xff\xfe{}", "not UTF-8"),
        (f"{MODEL}:predict", b"[1]", "the body is a list"),
        (f"{MODEL}:predict", b"[" * 100_000, "nested too deeply"),
        (f"{MODEL}:predict", b'{"instances": [' + b"9" * 10_000 + b"]}", ""),
        (f"{MODEL}:predict", b'{"instances": [1e999]}', "instances holds a number"),
        (f"{MODEL}:predict", b'{"instances": []}', "instances is empty"),
        (f"{MODEL}:predict", b'{"instances": {}}', "instances is an object"),
        (f"{MODEL}:predict", b'{"inputs": 3}', "inputs is a number"),
        (f"{MODEL}:predict", b'{"inputs": {"image": []}}', 'inputs names "image"; the one input is image_bytes'),
        (f"{MODEL}:predict", b'{"inputs": [], "instances": []}', "either instances"),
        (f"{MODEL}:predict", b'{"instances": [{"b64": null}]}', "instances holds an object"),
        (f"{MODEL}:predict", b'{"signature_name": "x", "instances": [1]}', "this server answers serving_default"),
        (f"{MODEL}:predict", b'{"signature_name": {}, "instances": []}', "instances is empty"),
        (f"{MODEL}:predict", b'{"signature_name": [1], "instances": [1]}', "signature_name is [1]"),
        ("/predict", b"", "is no JSON"),
    ],
)
def test_json_that_asks_for_nothing_is_400_with_the_reason(client: Client, path: str, body: bytes, reason: str) -> None:
    status, headers, answer = client.ask("POST", path, body, {"Content-Type": "application/json"})
    assert status == 400
    assert list(answer) == ["error"]
    assert reason in answer["error"]
    assert "\n" not in answer["error"]
    assert len(answer["error"]) < 400
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({"Content-Type": "image/png"}, b"", "the body is empty"),
        ({"Content-Type": "image/png"}, make_text(), "web page"),
        ({"Content-Type": "image/png"}, b"GIF89a", "not an image"),
        ({"Content-Type": "text/plain"}, b"hello", "Content-Type text/plain: send image/*"),
        ({"Content-Type": "multipart/form-data"}, b"hello", "Missing boundary"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"hello", "the multipart form"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--\r\n", "holds no file"),
        ({"Content-Type": "image/png", "Content-Encoding": "gzip"}, gzip.compress(b"x" * 100, mtime=0), "not an image"),
    ],
)
def test_bodies_that_hold_no_picture_are_400(client: Client, headers: dict[str, str], body: bytes, reason: str) -> None:
    status, _, answer = client.ask("POST", "/predict", body, headers)
    assert (status, reason in answer["error"]) == (400, True), answer


def test_pixels_are_limited_before_they_are_unpacked(client: Client) -> None:
    status, _, answer = client.predict(make_huge_png(2000))
    assert status == 400
    assert "more than 1,000,000" in answer["error"]


def test_too_many_images_or_bytes_are_413_and_the_answer_can_be_read(client: Client) -> None:
    assert client.send_json(f"{MODEL}:predict", {"instances": [b64(paint("red"))] * 7})[0] == 413
    body, headers = form(*[("a.png", paint("red"))] * 7)
    assert client.ask("POST", "/predict", body, headers)[0] == 413
    # Ten times more than is taken, and than fits into the buffers of a connection.
    status, _, answer = client.predict(bytes(10_000_000))
    assert (status, answer["error"][:8]) == (413, "the body")
    chunks = iter([bytes(500_000)] * 20)
    status, _, _ = client.ask("POST", "/predict", chunks, {"Content-Type": "image/png"})  # type: ignore[arg-type]
    assert status == 413


def test_unknown_addresses_versions_and_methods_are_told(client: Client) -> None:
    assert client.ask("GET", "/nothing")[0] == 404
    assert client.send_json("/v1/models/other:predict", {})[0] == 404
    status, _, answer = client.send_json(f"{MODEL}/versions/99:predict", {"instances": [b64(paint("red"))]})
    assert (status, answer["error"]) == (404, "version 99 is not served; version 3 is")
    assert client.send_json(f"{MODEL}:classify", {})[0] == 404
    status, headers, _ = client.ask("GET", "/predict")
    assert (status, headers["allow"]) == (405, "POST")


def test_no_other_site_may_ask_from_a_browser(client: Client) -> None:
    _, headers, _ = client.ask("POST", "/predict", paint("red"), {"Origin": "https://example.org"})
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_sane_request_id_is_kept_and_another_replaced(client: Client) -> None:
    assert client.ask("GET", "/ping", headers={"X-Request-Id": "abc-1"})[1]["x-request-id"] == "abc-1"
    told = client.ask("GET", "/ping", headers={"X-Request-Id": "a b" * 50})[1]["x-request-id"]
    assert " " not in told


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_is_503_with_retry_after_and_what_was_taken_is_answered(client: Client) -> None:
    server, hold = client.server, threading.Event()
    server.answering._model_thread.submit(hold.wait)
    with ThreadPoolExecutor(8) as pool:
        taken = [pool.submit(client.predict, paint(COLOURS[number % 3])) for number in range(8)]
        wait_until(lambda: server.answering.images == 8)
        status, headers, answer = client.predict(paint("red"))
        assert (status, headers["retry-after"]) == (503, "1")
        assert "send it again" in answer["error"]
        hold.set()
        said = [future.result() for future in taken]
    assert [(status, answer["label"]) for status, _, answer in said] == [
        (200, COLOURS[number % 3]) for number in range(8)
    ]
    # All eight waited for the same call.
    metrics = client.ask("GET", "/metrics")[2].decode()
    assert 'serve_requests_total{route="/predict",status="503"}' in metrics
    assert "serve_queue_images 0.0" in metrics


@contextmanager
def hurried(server: Server) -> Iterator[None]:
    """Gives each request that begins inside half a second in place of three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "limits", replace(server.limits, timeout_seconds=0.5))
        yield


def test_no_answer_in_time_is_503_and_leaves_nothing_behind(client: Client) -> None:
    server, hold = client.server, threading.Event()
    server.answering._model_thread.submit(hold.wait)
    try:
        with hurried(server):
            status, headers, answer = client.predict(paint("red"))
    finally:
        hold.set()
    assert (status, answer["error"]) == (503, "there was no answer within 0.5 s")
    assert headers["retry-after"]
    assert (server.answering.images, server._bodies.held) == (0, 0)
    assert client.predict(paint("red"))[0] == 200


def test_what_would_wait_longer_than_its_time_is_503_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    server, hold = client.server, threading.Event()
    monkeypatch.setattr(server.answering, "_image_seconds", 4.0)  # longer than the 3 s of a request
    server.answering._model_thread.submit(hold.wait)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.predict, paint("red"))
        wait_until(lambda: server.answering.images == 1)
        status, _, answer = client.predict(paint("red"))
        hold.set()
    assert (status, answer["error"]) == (503, "1 images before it take 4 s; send it again later")
    assert first.result()[0] == 200


def test_time_without_requests_is_not_taken_for_a_slow_model(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    answering, hold = client.server.answering, threading.Event()
    # What is answered alone while a bad picture waits beside it: nobody waits any more once both are told.
    body, headers = form(("a.png", paint("red")), ("b.png", b"no image"))
    assert client.ask("POST", "/predict", body, headers)[0] == 200
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 3600)
    assert client.predict(paint("red"))[0] == 200
    answering._model_thread.submit(hold.wait)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.predict, paint("red"))
        wait_until(lambda: answering.images == 1)
        second = pool.submit(client.predict, paint("red"))
        wait_until(lambda: answering.images == 2 or second.done())
        hold.set()
    assert (first.result()[0], second.result()[0]) == (200, 200)


def send_raw(client: Client, content: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=30)
    connection.sendall(content)
    return connection


def test_cut_slow_and_broken_connections_leave_nothing_behind(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    server = client.server
    monkeypatch.setattr("pipeline.serving.bodies._DISCARD_SECONDS", 0.2)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"
    for _ in range(5):
        send_raw(client, head + b"half").close()
        send_raw(client, b"POST /pre").close()
        with send_raw(client, b"\x00\x01garbage\r\n\r\n") as broken:
            assert broken.recv(100).startswith(b"HTTP/1.1 400")
    whole = head.replace(b"5000", str(len(paint("red"))).encode()) + paint("red")
    for _ in range(5):
        send_raw(client, whole).close()  # It does not wait for its answer.
    with hurried(server), send_raw(client, head + b"half") as slow:
        assert slow.recv(100).startswith(b"HTTP/1.1 400")  # after the half second
    wait_until(lambda: (server.answering.images, server._bodies.held, server.versions.current.users) == (0, 0, 0))
    assert client.predict(paint("green"))[2]["label"] == "green"


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_a_connection_whose_request_does_not_begin_is_closed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.server._HEAD_SECONDS", 0.5)
    with running(models) as client:
        with send_raw(client, b"POST /predict HTTP/1.1\r\nHo") as slow:
            assert is_closed(slow)
        # Nor may the second request of a connection begin and never go on.
        with send_raw(client, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n") as second:
            told = b""
            while not told.endswith(b"}"):
                told += second.recv(1000)
            second.sendall(b"GET /pi")
            assert is_closed(second)  # before the time that a connection is kept alive


def test_several_requests_share_a_connection(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    for colour in COLOURS:
        connection.request("POST", "/predict", paint(colour), {"Content-Type": "image/png"})
        assert json.loads(connection.getresponse().read())["label"] == colour
    connection.close()


def test_explain_tells_what_the_model_saw_and_where_the_evidence_lies(client: Client) -> None:
    _, _, answer = client.predict(paint("red"), "/predict?explain=true")
    assert np.shape(answer["evidence"]) == (4, 4)
    assert 0 <= np.min(answer["evidence"]) <= np.max(answer["evidence"]) <= 1
    assert answer["seen"].startswith("data:image/png;base64,")


def test_the_pages_ask_no_other_host(client: Client) -> None:
    for path in ("/", "/docs"):
        status, headers, page = client.ask("GET", path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"http://" not in page
        assert b"https://" not in page
    status, _, openapi = client.ask("GET", "/openapi.json")
    assert (status, openapi["openapi"]) == (200, "3.1.0")
    assert f"{MODEL}:predict" in openapi["paths"]
    assert "/vertex/predict" in openapi["paths"]


def test_a_name_with_odd_letters_stays_one_part_of_the_address() -> None:
    paths = make_openapi("a b/é", Limits(1, 1))["paths"]
    assert "/v1/models/a%20b%2F%C3%A9:predict" in paths


def test_where_there_is_no_model_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither a saved_model\.pb nor numbered versions"):
        ModelSource(str(tmp_path))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_images": 300}, "--max-images 300: must be 1 to 256"),
        ({"timeout_seconds": 60.0}, "--timeout 60: must be 0.1 to 20"),
        ({"max_bytes": 0}, "--max-megabytes 0: must be 1e-06 to 536.871"),
    ],
)
def test_limits_that_do_not_fit_together_are_told(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Limits(**{"max_bytes": 1, "max_pixels": 1, **limits}).check()
