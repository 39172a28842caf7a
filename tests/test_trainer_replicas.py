"""The same training over 2 and 4 devices as on one: logical CPUs, which only a new process can be given."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
VARIANTS: dict[str, dict[str, Any]] = {
    # 80 images in batches of 16: none is left over. Clipping and averages act on what all replicas agree on.
    "adam": {
        "optimizer": "adam",
        "gradient_clip_norm": 0.05,
        "ema_momentum": 0.9,
        "layer_decay": 0.5,
        "steps_per_execution": 3,
    },
    "sgd": {"optimizer": "sgd", "weight_decay": 0.01, "feature_cache": "off"},
}


def train_over(replicas: int, folder: Path, variant: str) -> None:
    """Trains and stores weights and losses; runs in the new process."""
    import contextlib

    import tensorflow as tf

    from components.trainer.checkpoints import CheckpointDir
    from components.trainer.training import train
    from tests.tiny_training import make_model, make_points, make_settings

    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)]) if replicas > 1 else None
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = make_model(dropout=0.5)
    points, eval_split = make_points(count=80, seed=3, drop_remainder=replicas > 1), make_points(count=41)
    place = folder / f"{variant}-{replicas}"
    history, _ = train(
        model, points, eval_split, make_settings(**VARIANTS[variant]), str(place), CheckpointDir(str(place / "resume"))
    )
    losses = np.array([(epoch.loss, epoch.eval_loss, epoch.accuracy, epoch.eval_accuracy) for epoch in history])
    np.savez(folder / f"{variant}-{replicas}.npz", *model.get_weights(), losses=losses)


def run_processes(folder: Path, variant: str, *counts: str) -> Path:
    # A process each: TensorFlow keeps the first group of devices that add up for good.
    processes = [
        subprocess.Popen([sys.executable, "-m", "tests.test_trainer_replicas", str(folder), variant, count], cwd=ROOT)
        for count in counts
    ]
    statuses = [process.wait() for process in processes]  # of all, before one of them fails the test
    assert not any(statuses)
    return folder


def assert_same(folder: Path, variant: str, *several_replicas: int) -> None:
    for replicas in several_replicas:
        with np.load(folder / f"{variant}-1.npz") as one, np.load(folder / f"{variant}-{replicas}.npz") as several:
            assert one.files == several.files
            for name in one.files:
                # float32 sums over a batch in 2 or 4 parts: each step rounds elsewhere (1e-7), and 25 steps of Adam,
                # which divides by small gradients, carry that on.
                np.testing.assert_allclose(several[name], one[name], rtol=1e-3, atol=1e-4)


def test_two_replicas_end_where_one_device_ends(tmp_path: Path) -> None:
    assert_same(run_processes(tmp_path, "adam", "1,2"), "adam", 2)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_replicas_end_where_one_device_ends(tmp_path: Path, variant: str) -> None:
    assert_same(run_processes(tmp_path, variant, "1,2", "4"), variant, 2, 4)


if __name__ == "__main__":
    import tensorflow as tf

    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 4)
    for replicas in map(int, sys.argv[3].split(",")):
        train_over(replicas, Path(sys.argv[1]), sys.argv[2])
