"""The command, on small compiled pipelines: real processes, caches, retries, resolvers, failures."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.rehearse import main
from tests.tiny_spec import BLESSING, MODEL, WRITE_MODEL, TinySpec, container

CACHED = {"cachingOptions": {"enableCache": True}}


def rehearse(spec: TinySpec, folder: Path, *options: str) -> int:
    return main([spec.write(folder), "--output-dir", str(folder / "out"), *options])


def trained(**task: Any) -> TinySpec:
    spec = TinySpec()
    spec.add(
        "Trainer", container(WRITE_MODEL), outputs={"model": MODEL}, parameters={"steps": ("NUMBER_INTEGER", 3)}, **task
    )
    return spec


def read(folder: Path, name: str) -> list[Path]:
    return sorted((folder / "out").rglob(name))


def test_artifacts_and_parameters_reach_the_next_container(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = trained()
    code = "open(os.path.dirname(outputs['outputFile']) + '/seen', 'w').write(json.dumps(first(inputs, 'model')))"
    spec.add("Reader", container(code), inputs={"model": ("Trainer", "model", MODEL)})
    assert rehearse(spec, tmp_path) == 0
    (weights,) = read(tmp_path, "weights")
    assert "'parameterValues': {'steps': 3.0}" in weights.read_text()
    assert weights.is_relative_to(tmp_path / "out/gs/bucket/root")
    (seen,) = read(tmp_path, "seen")
    model = json.loads(seen.read_text())
    assert model["uri"] == str(weights.parent)
    assert model["metadata"] == {"good": 1.0}
    assert model["type"] == MODEL
    assert model["name"]
    printed = capsys.readouterr().out
    assert f"gs://bucket -> {tmp_path}/out/gs/bucket" in printed
    assert f"image image:1 -> this machine, {sys.executable}" in printed
    assert "all tasks ended well" in printed


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_failing_container_shows_its_last_lines_and_stops_what_needs_it(
    tmp_path: Path, fail_fast: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = TinySpec()
    spec.add("Trainer", container("print('out of memory'); sys.exit(7)"), outputs={"model": MODEL})
    spec.add("Pusher", container(""), inputs={"model": ("Trainer", "model", MODEL)})
    spec.add("Reporter", container(""), dependentTasks=["Pusher"])
    spec.add("Zebra", container(""))  # begins when the Trainer has failed, since only one runs at a time
    assert rehearse(spec, tmp_path, "--parallel=1", *["--fail-fast"] * fail_fast) == 1
    printed = capsys.readouterr().out
    assert "failed: its container ended with exit status 7" in printed
    assert "| out of memory" in printed
    notes = {line.split()[1]: line.partition(" s  ")[2] for line in printed.splitlines() if line[:3] in (" ✓ ", " · ")}
    zebra = "not run: another task failed" if fail_fast else ""
    assert notes == {"Pusher": "not run: Trainer failed", "Reporter": "not run: Pusher was not run", "Zebra": zebra}
    assert bool(read(tmp_path, "Zebra.log")) != fail_fast
    (log,) = read(tmp_path, "Trainer.log")
    assert "out of memory" in log.read_text()
    assert not read(tmp_path, "Pusher.log")


def test_a_missing_module_is_the_task_s_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = TinySpec()
    spec.add("Trainer", {"container": {"image": "i", "command": ["python", "-m", "no_such_module"], "args": ["{{$}}"]}})
    assert rehearse(spec, tmp_path) == 1
    assert "No module named no_such_module" in capsys.readouterr().out


def test_a_command_that_is_not_there_is_the_task_s_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = TinySpec()
    spec.add("Trainer", {"container": {"image": "i", "command": ["/no/such/program"]}})
    assert rehearse(spec, tmp_path) == 1
    assert "/no/such/program: cannot be started: [Errno 2]" in capsys.readouterr().out


def test_retries_as_the_policy_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flaky = f"""
path = {str(tmp_path)!r} + '/attempts'
open(path, 'a').write('x')
if len(open(path).read()) < 3: sys.exit(1)
"""
    spec = TinySpec()
    policy = {"maxRetryCount": 2, "backoffDuration": "0.01s", "backoffFactor": 1.5}
    spec.add("Flaky", container(flaky), retryPolicy=policy)
    assert rehearse(spec, tmp_path) == 0
    assert (tmp_path / "attempts").read_text() == "xxx"
    assert "attempt 3 of 3 in 0.015 s" in capsys.readouterr().out
    (tmp_path / "attempts").unlink()
    policy["maxRetryCount"] = 1
    assert rehearse(spec, tmp_path) == 1
    assert (tmp_path / "attempts").read_text() == "xx"
    (tmp_path / "attempts").unlink()
    assert rehearse(spec, tmp_path, "--no-retries") == 1
    assert (tmp_path / "attempts").read_text() == "x"


def test_the_cache_serves_what_has_not_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = trained(**CACHED)
    spec.add("Reader", container(""), inputs={"model": ("Trainer", "model", MODEL)}, **CACHED)
    assert rehearse(spec, tmp_path) == 0
    assert "cached" not in capsys.readouterr().out
    assert rehearse(spec, tmp_path) == 0
    assert capsys.readouterr().out.count("  cached") == 2
    assert rehearse(spec, tmp_path, "--no-cache") == 0
    assert "cached" not in capsys.readouterr().out
    spec.task("Trainer")["inputs"]["parameters"]["steps"]["runtimeValue"]["constant"] = 4
    assert rehearse(spec, tmp_path) == 0
    assert "cached" not in capsys.readouterr().out
    assert len(read(tmp_path, "weights")) == 3


def test_a_task_that_is_not_to_be_cached_runs_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert rehearse(trained(), tmp_path) == 0
    assert len(read(tmp_path, "weights")) == 2


def test_removed_files_are_not_served_from_cache(tmp_path: Path) -> None:
    assert rehearse(trained(**CACHED), tmp_path) == 0
    (weights,) = read(tmp_path, "weights")
    weights.unlink()
    weights.parent.rmdir()
    assert rehearse(trained(**CACHED), tmp_path) == 0
    assert len(read(tmp_path, "weights")) == 1


BLESS = """
model, blessing = first(inputs, 'model'), first(outputs, 'blessing')
metadata = {'blessed': 1, 'current_model_id': model['name']}
made['blessing'] = {'artifacts': [{'name': blessing['name'], 'uri': blessing['uri'], 'metadata': metadata}]}
open(blessing['uri'] + '/baseline', 'w').write(json.dumps(inputs['artifacts'].get('baseline')))
"""


def with_resolver() -> TinySpec:
    spec = trained()
    query = 'schema_title="tfx.ModelBlessing" AND state=LIVE AND metadata.blessed.number_value=1'
    spec.add(
        "find-blessing",
        {"resolver": {"outputArtifactQueries": {"blessing": {"filter": query}}}},
        outputs={"blessing": BLESSING},
    )
    name = "{{$.inputs.artifacts['input'].metadata['current_model_id']}}"
    query = f'schema_title="tfx.Model" AND state=LIVE AND name="{name}"'
    resolver = {"resolver": {"outputArtifactQueries": {"model": {"filter": query}}}}
    spec.add(
        "find-model", resolver, inputs={"input": ("find-blessing", "blessing", BLESSING)}, outputs={"model": MODEL}
    )
    inputs = {"model": ("Trainer", "model", MODEL), "baseline": ("find-model", "model", MODEL)}
    spec.add("Evaluator", container(BLESS), inputs=inputs, outputs={"blessing": BLESSING})
    return spec


def test_a_second_rehearsal_resolves_the_blessed_model_of_the_first(tmp_path: Path) -> None:
    assert rehearse(with_resolver(), tmp_path) == 0
    (first,) = read(tmp_path, "baseline")
    assert first.read_text() == "null"
    (weights,) = read(tmp_path, "weights")
    assert rehearse(with_resolver(), tmp_path) == 0
    (second,) = set(read(tmp_path, "baseline")) - {first}
    assert json.loads(second.read_text())["artifacts"][0]["uri"] == str(weights.parent)


def test_another_pipeline_does_not_see_these_models(tmp_path: Path) -> None:
    assert rehearse(with_resolver(), tmp_path) == 0
    other = with_resolver()
    other.spec["pipelineInfo"]["name"] = "other"
    assert rehearse(other, tmp_path) == 0
    assert [path.read_text() for path in read(tmp_path, "baseline")] == ["null", "null"]


def test_a_damaged_store_is_the_user_s_to_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/artifacts.json").write_text("{")
    assert rehearse(trained(), tmp_path) == 2
    assert "artifacts.json: is damaged; remove it to rehearse from the start" in capsys.readouterr().err


def test_independent_tasks_run_at_the_same_time_if_they_may(tmp_path: Path) -> None:
    # Each waits for the other's file: only together do they end before they give up.
    def meet(mine: str, other: str) -> str:
        return (
            f"import time; os.chdir({str(tmp_path)!r}); open('{mine}', 'w').close()\n"
            f"for _ in range(6000):\n    if os.path.exists('{other}'): break\n    time.sleep(0.01)\nelse: sys.exit(1)"
        )

    spec = TinySpec()
    spec.add("A", container(meet("a", "b")))
    spec.add("B", container(meet("b", "a")))
    assert rehearse(spec, tmp_path, "--parallel", "2") == 0


def test_one_task_at_a_time_if_so_wanted(tmp_path: Path) -> None:
    code = f"import time; log = open({str(tmp_path)!r} + '/log', 'a')\n"
    code += "print('b', end='', file=log, flush=True); time.sleep(0.1); print('e', end='', file=log, flush=True)"
    spec = TinySpec()
    spec.add("A", container(code))
    spec.add("B", container(code))
    assert rehearse(spec, tmp_path, "--parallel", "1") == 0
    assert (tmp_path / "log").read_text() == "bebe"


def test_an_interrupt_ends_the_containers(tmp_path: Path) -> None:
    spec = TinySpec()
    sleep = f"import time; open({str(tmp_path)!r} + '/pid', 'w').write(str(os.getpid())); time.sleep(600)"
    spec.add("Sleeper", container(sleep))
    command = [sys.executable, "-m", "pipeline.rehearse", spec.write(tmp_path), "--output-dir", str(tmp_path / "out")]
    # What a shell starts in the background ignores interrupts, and so would the command.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    pid_file = tmp_path / "pid"
    while not (pid_file.exists() and pid_file.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: interrupted" in printed
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def images_of(tmp_path: Path, settings: str) -> TinySpec:
    spec = TinySpec()
    spec.add("Images", container("pass"), parameters={"data_settings": ("STRING", settings)})
    return spec


def test_images_in_a_bucket_without_copies_are_named_before_any_task_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = images_of(tmp_path, json.dumps({"path": "gs://photos/all", "class_names": None}))
    assert rehearse(spec, tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "task 'Images' reads data.path gs://photos/all" in line
    assert f"{tmp_path}/out/gs/photos/all is not there" in line
    assert not (tmp_path / "out" / "logs").exists()
    (tmp_path / "out/gs/photos/all").mkdir(parents=True)
    assert rehearse(spec, tmp_path) == 0


@pytest.mark.parametrize("settings", ["not JSON", "[1]", '{"path": "/here"}', '{"path": null}'])
def test_what_is_in_no_bucket_is_not_looked_for(settings: str, tmp_path: Path) -> None:
    assert rehearse(images_of(tmp_path, settings), tmp_path) == 0
