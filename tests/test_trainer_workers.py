"""The same training by two workers, which are processes, as by one: who writes, who decides, where it goes on."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
CHOSEN: dict[str, Any] = {
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "ema_momentum": 0.8,
    "warmup_steps": 6,
    "gradient_clip_norm": 0.05,
    "fine_tune_learning_rate": 0.03,
}


def train_here(folder: Path, worker: int | None, killed_after: int | None, measured: bool, **chosen: Any) -> None:
    """Trains and stores weights and losses; runs in the new process, as one of two workers or as the only one.

    `measured` lets the steps of a call follow from the speed; else they are 3, exact enough to be killed at.
    """
    import tensorflow as tf

    from components.trainer.checkpoints import CheckpointDir, TrainingState
    from components.trainer.strategy import make_strategy
    from components.trainer.training import train
    from tests.tiny_training import make_model, make_points, make_settings

    strategy = make_strategy("one_device" if worker is None else "multi_worker")
    tf.config.experimental.enable_op_determinism()
    with strategy.scope():
        model = make_model(dropout=0.5, backbone=chosen.get("head") == "standardised")

    def on_step(state: TrainingState) -> None:
        print(f"step {state.total_steps}", flush=True)
        if state.total_steps == killed_after:
            os.kill(os.getpid(), signal.SIGTERM)

    history, _ = train(
        model,
        make_points(count=80, seed=3, drop_remainder=True),
        make_points(count=41),
        make_settings(
            **{**CHOSEN, **chosen},
            # The chief alone has reason to save by its clock, and finds it after every call. With `auto` the workers
            # measure other times, and must do the same steps all the same.
            checkpoint_every_seconds=1e-9 if worker == 0 else 1e9,
            steps_per_execution="auto" if measured else 3,
        ),
        str(folder / f"run-{worker}"),
        CheckpointDir(str(folder / "resume"), str(folder / "scratch") if worker else None),
        on_step,
    )
    losses = np.array([(epoch.loss, epoch.eval_loss, epoch.accuracy, epoch.eval_accuracy) for epoch in history])
    np.savez(folder / f"{worker}.npz", *model.get_weights(), losses=losses)


def start(*arguments: str, worker: int | None = None, ports: list[int] | None = None) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    if ports is not None:
        cluster = {"worker": [f"localhost:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}})
    return subprocess.Popen(
        [sys.executable, "-m", "tests.test_trainer_workers", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def find_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def run_workers(folder: Path, killed_after: int | None, **chosen: Any) -> tuple[list[int], list[list[int]]]:
    """Runs two workers, of which the second gets SIGTERM after a step; returns their statuses and their steps.

    Step 0 never comes; None measures how many steps a call does.
    """
    ports = find_ports(2)
    processes = [
        start(
            str(folder),
            str(worker),
            str(killed_after if worker else None),
            str(killed_after is None),
            json.dumps(chosen),
            worker=worker,
            ports=ports,
        )
        for worker in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    steps = [[int(line.split()[1]) for line in output.splitlines() if line.startswith("step ")] for output in outputs]
    return [process.returncode for process in processes], steps


def assert_two_workers_are_as_one(folder: Path, **chosen: Any) -> Path:
    """Returns the folder of what the two came to."""
    alone = start(str(folder), "None", "None", "True", json.dumps(chosen))
    alone.communicate()
    assert alone.returncode == 0
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    statuses, steps = run_workers(undisturbed, killed_after=None, **chosen)
    assert statuses == [0, 0]
    assert steps[0] == steps[1]
    files = [folder / "None.npz", undisturbed / "0.npz", undisturbed / "1.npz"]
    with np.load(files[0]) as one, np.load(files[1]) as first, np.load(files[2]) as second:
        assert one.files == first.files == second.files
        for name in one.files:
            np.testing.assert_array_equal(first[name], second[name])
            # As over two replicas of one process: sums in two parts round elsewhere, and Adam carries that on.
            np.testing.assert_allclose(first[name], one[name], rtol=1e-3, atol=1e-4)
    return undisturbed


@pytest.mark.slow
def test_a_standardised_head_learns_on_two_workers_what_it_learns_on_one(tmp_path: Path) -> None:
    """Each has the features that both computed, and steps on its share of them."""
    assert_two_workers_are_as_one(tmp_path, head="standardised", recipe="balanced", head_epochs=6)


@pytest.mark.slow
def test_two_workers_end_where_one_process_ends(tmp_path: Path) -> None:
    undisturbed = assert_two_workers_are_as_one(tmp_path)

    # One worker is told to leave: both save, both leave, and both go on from the chief's checkpoint.
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    statuses, steps = run_workers(resumed, killed_after=8)
    assert statuses == [-signal.SIGTERM, -signal.SIGTERM]
    assert steps[0] == steps[1] == [3, 5, 8]
    statuses, later = run_workers(resumed, killed_after=0)
    assert statuses == [0, 0]
    assert later[0] == later[1] == [13, 15, 18, 20, 23, 25]  # the notice was taken after the next call, at 10
    with np.load(undisturbed / "0.npz") as expected, np.load(resumed / "0.npz") as found:
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name])
    # Nobody but the chief writes where the checkpoints are read.
    assert {path.name for path in (resumed / "scratch").iterdir()} >= {"ignored.index"}
    assert not [path for path in (resumed / "resume").iterdir() if "ignored" in path.name]


def run_trainers(folder: Path, **settings: Any) -> dict[str, Any]:
    """Runs TFX's Trainer on two workers; returns what the chief recorded."""
    from components.trainer import TRAINING_FILE
    from tests.trainer_run import transform_images

    transform_images(folder)
    ports, asked = find_ports(2), json.dumps({**settings, "strategy": "multi_worker"})
    processes = [start(str(folder), "trainer", asked, worker=worker, ports=ports) for worker in range(2)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    record: dict[str, Any] = json.loads((folder / "output" / "model_run" / TRAINING_FILE).read_text())
    return record


@pytest.mark.slow
def test_tfx_trainer_runs_on_two_workers_and_the_chief_writes(tmp_path: Path) -> None:
    from components.trainer.run_fn import HISTORY_FILE
    from tests.trainer_run import SETTINGS

    record = run_trainers(tmp_path, **SETTINGS)
    assert record["replicas"] == 2
    assert len((tmp_path / "output" / "model_run" / HISTORY_FILE).read_text().splitlines()) == 3
    assert len(list((tmp_path / "output" / "model_run" / "tensorboard").rglob("events.out.*"))) == 4
    assert not list((tmp_path / "resume").iterdir())


@pytest.mark.slow
def test_a_recipe_on_two_workers_steps_its_head_on_standardised_features(tmp_path: Path) -> None:
    from tests.trainer_run import CLASSES

    quick = {"recipe": "quick", "weights": "none", "backbone": "mobilenetv3-small", "batch_size": 8}
    record = run_trainers(tmp_path, **quick, early_stopping_patience=2)
    assert record["replicas"] == 2
    assert record["resolved"]["head"] == "standardised"
    assert [epoch["phase"] for epoch in record["history"]] == ["head"] * len(record["history"])
    assert record["best"]["eval_loss"] < math.log(len(CLASSES))  # what a head that knows nothing has
    assert (tmp_path / "output" / "model" / "Format-Serving" / "saved_model.pb").is_file()


if __name__ == "__main__":
    if sys.argv[2] == "trainer":
        from tests.trainer_run import run_trainer

        place = Path(sys.argv[1])
        run_trainer(place, place / "output", json.loads(sys.argv[3]), checkpoint_dir=str(place / "resume"))
    else:
        train_here(
            Path(sys.argv[1]),
            None if sys.argv[2] == "None" else int(sys.argv[2]),
            None if sys.argv[3] == "None" else int(sys.argv[3]),
            sys.argv[4] == "True",
            **json.loads(sys.argv[5]),
        )
