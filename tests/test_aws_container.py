"""SageMaker's containers with what a deployment made: the image's own start script, and the unpacked archive."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline import aws
from pipeline.sagemaker import calls
from tests.sagemaker_stand_in import BASE, REGION, Container, StandIn, on_stand_in
from tests.serving import Client, make_colour_model, paint, probability_of

ROOT = Path(__file__).parent.parent
ALL = [word for key, value in BASE.items() for word in (f"--{key}", value)]


class Containers:
    """Processes of `pipeline/image/serve.sh serve`, as SageMaker starts the image."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, folder: Path, environment: dict[str, str]) -> Container:
        """Starts one; folder, host and port are those of this machine."""
        process = subprocess.Popen(
            ["sh", "pipeline/image/serve.sh", "serve", "--model", str(folder), "--host", "127.0.0.1", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/docs", line):
                client = Client(int(found[1]))
                break
        else:
            raise AssertionError(lines)
        assert not any("measured best" in line for line in lines)  # SERVE_OPTIONS gave the batch.
        assert client.ask("GET", "/ping")[0] == 200

        def ask(body: bytes, kind: str) -> tuple[int, bytes]:
            status, _, answer = client.ask("POST", "/invocations", body, {"Content-Type": kind})
            return status, json.dumps(answer).encode()

        return ask

    def stop(self) -> list[int]:
        """Sends SIGTERM, as SageMaker does, and returns the exit statuses."""
        for process in self.processes:
            process.terminate()
        return [process.wait(timeout=60) for process in self.processes]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, Any, Containers]]:
    containers = Containers()
    try:
        with on_stand_in() as (services, client):
            services.start, services.root = containers.start, tmp_path_factory.mktemp("machines")
            yield services, client, containers
    finally:
        containers.stop()


def test_the_container_answers_with_the_archive_that_was_deployed(
    world: tuple[StandIn, Any, Containers],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services, client, containers = world
    monkeypatch.setattr(calls, "Aws", lambda region: client)
    make_colour_model(tmp_path / "colours" / "4", 4)
    more = ["--server-options=--batch 2", "--model", str(tmp_path / "colours")]
    assert aws.main(["deploy", *ALL, *more]) == 0
    # As docs/aws.md asks.
    runtime = boto3.client("sagemaker-runtime", region_name=REGION)
    for colour in ("red", "green"):
        answer = runtime.invoke_endpoint(EndpointName="digits", ContentType="image/png", Body=paint(colour))
        told = json.loads(answer["Body"].read())
        assert (told["label"], told["model_version"]) == (colour, 4)
        assert told["probability"] == pytest.approx(probability_of(4))
    with pytest.raises(runtime.exceptions.ModelError):
        runtime.invoke_endpoint(EndpointName="digits", ContentType="image/png", Body=b"no picture")
    # The batch asks the same container about whole files, by a Content-Type for all.
    pictures = {"a.png": paint("red"), "deep/b.webp": paint("green", format="WEBP"), "c.jpg": b"no picture"}
    for name, content in pictures.items():
        client.call("s3", "put_object", Bucket="bucket", Key=f"photos/{name}", Body=content)
    capsys.readouterr()
    places = ["--input", "s3://bucket/photos", "--output", "s3://bucket/answers"]
    assert aws.main(["transform", *ALL, *more, *places]) == 1
    told = capsys.readouterr().out
    assert "2 of 3 results in s3://bucket/answers/" in told
    assert told.endswith("; no result of c.jpg\n")
    s3, results = boto3.client("s3", region_name=REGION), {}
    for path in services.objects():
        if path.startswith("bucket/answers/"):
            content = s3.get_object(Bucket="bucket", Key=path.partition("/")[2])["Body"].read()
            results[path.split("/", 3)[3]] = json.loads(content)["label"]
    assert results == {"a.png.out": "red", "deep/b.webp.out": "green"}
    assert containers.stop() == [0]  # One for both.
    assert not services.wrong
