"""`python -m pipeline.serve` as a process: its flags, what it prints and logs, and its way down."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import serve
from tests.serving import COLOURS, Client, make_colour_model, paint, probability_of

ROOT = Path(__file__).parent.parent


COMMAND = (sys.executable, "-m", "pipeline.serve")


class Process:
    """A server of its own, started by a command of `pipeline.serve`, or of the image."""

    def __init__(
        self, *arguments: str, environment: dict[str, str] | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/docs", line):
                self.client = Client(int(found[1]))
                return
        raise AssertionError(self.lines, self.process.communicate())

    def stop(self) -> tuple[int, str, str]:
        """Sends SIGTERM and returns status, the rest of the output, and the errors."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("process") / "colours"
    make_colour_model(root / "4", 4)
    return root


@pytest.fixture
def process(models: Path, tmp_path: Path) -> Iterator[Process]:
    environment = {
        "AIP_STORAGE_URI": str(models),
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": "/healthy",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict",
    }
    started = Process("--log", str(tmp_path / "serve.log"), "--poll-seconds", "0.2", environment=environment)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.communicate()


def test_sigterm_ends_it_with_what_was_taken_answered_and_the_log_holds_each_request(
    process: Process, tmp_path: Path
) -> None:
    client, log = process.client, tmp_path / "serve.log"
    assert re.fullmatch(r"batches of \d+ measured best: [\d,.]+ images a second", process.lines[0])
    assert process.lines[1].startswith("version 4 of colours answers, from ")
    assert str(log) in process.lines[2]
    assert client.ask("GET", "/healthy")[0] == 200
    assert client.predict(paint("red"), "/v1/endpoints/1:predict")[2]["label"] == "red"
    image = paint("green")
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-1\r\nContent-Type: image/png\r\n"
    slow = socket.create_connection(("127.0.0.1", client.port), timeout=30)
    slow.sendall(f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image[:100])
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client.predict, paint(COLOURS[number % 3], number)) for number in range(30)]
        while not any(future.done() for future in asked):
            time.sleep(0.005)
        process.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        slow.sendall(image[100:])  # What was taken is answered, though the rest of it comes only now.
        with slow, slow.makefile("rb") as answer_of_slow:  # to the end of the connection, which it closes
            assert b'"label":"green"' in answer_of_slow.read()
        answered = refused = 0
        for number, future in enumerate(asked):
            try:
                status, headers, answer = future.result()
            except OSError:  # It came too late to be taken.
                refused += 1
                continue
            answered += 1
            assert (status, headers["x-model-version"], answer["label"]) == (200, "4", COLOURS[number % 3])
            assert answer["probability"] == pytest.approx(probability_of(4))
    assert answered
    out, err = process.process.communicate(timeout=30)
    assert (process.process.returncode, err) == (0, "")
    assert out.splitlines() == ["stopped; what was taken has been answered"]
    text = log.read_text()
    assert re.search(r"id=mine-1 POST /predict status=200 ms=[\d.]+ images=1 version=4", text)
    assert text.count("POST /predict status=200") == answered + 1
    with pytest.raises(ConnectionRefusedError):
        client.ask("GET", "/ping")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "--model nowhere: holds neither a saved_model.pb nor numbered versions of a model"),
        (["--port", "70000"], "--port 70000: must be 0 to 65535"),
        (["--batch", "0"], "--batch 0: must be 1 to 1024"),
        (["--max-images", "1000"], "--max-images 1000: must be 1 to 256"),
        (["--timeout", "nan"], "--timeout nan: must be 0.1 to 20"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--model" in arguments else ["--model", str(models), *arguments]
    assert serve.main(given) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: {message}\n")


def test_a_folder_that_is_not_there_is_told_before_tensorflow_is_imported() -> None:
    act = "serve.main(['--model', 'nowhere']) + ('tensorflow' in sys.modules)"
    code = f"import sys; from pipeline import serve; sys.exit({act})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --model nowhere: holds neither")


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--model", str(models), "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"error: --host 127.0.0.1 --port {port}: Address already in use; choose another\n"


def test_a_log_that_cannot_be_written_is_told(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--model", str(models), "--port", "0", "--log", "/dev/null/a/serve.log"]) == 2
    assert capsys.readouterr().err == (
        "error: --log /dev/null/a/serve.log: cannot be written: Not a directory; choose another\n"
    )
