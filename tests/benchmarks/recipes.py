"""Which augmentation and regularisation help: `python -m tests.benchmarks.recipes --data PATH [--seeds 3]`.

PATH is an archive `tar.gz` of `train|test/<class>/*.jpg`, e.g. of CIFAR-10. VGG16 is trained from random weights step
by step (`MANUAL`) on a few of its train images, with each recipe. Each is judged on 10,000 others of train, paired with
`nothing` seed by seed; the test images choose no recipe either. From ImageNet's weights the gains may be others.
"""

import argparse
import math
import statistics
import tempfile
from typing import Any

import numpy as np

from tests.benchmarks.feature_cache import read_images
from tests.benchmarks.whole_process import describe_machine

SPLITS = ("train", "eval", "judge")
MANUAL = {
    "recipe": "manual",
    "weights": "none",
    "batch_size": 64,
    "head_epochs": 1,
    "fine_tune_epochs": 10,
    "fine_tune_learning_rate": 0.0001,
    "fine_tune_blocks": 5,
    "early_stopping_patience": 3,
}
RECIPES: dict[str, dict[str, Any]] = {
    "nothing": {"random_flip": False},
    "flip": {"random_flip": True},
    "flip, crop": {"random_flip": True, "random_crop_area": 0.6},
    "flip, trivial": {"random_flip": True, "trivial_augment": 0.5},
    "flip, mixup": {"random_flip": True, "mixup_alpha": 0.2},
    "flip, smoothing": {"random_flip": True, "label_smoothing": 0.1},
    "flip, average": {"random_flip": True, "ema_momentum": 0.99},
}


def measure(data: dict[str, Any], changes: dict[str, Any]) -> float:
    """Trains with changes of `MANUAL`, as the Trainer does; returns the accuracy on the judging images."""
    from components.trainer.assembly import seeded
    from components.trainer.augmentation import make_augment
    from components.trainer.checkpoints import CheckpointDir
    from components.trainer.inputs import ArraySplit, distribute
    from components.trainer.kernel_gradient import speed_up_kernel_gradients
    from components.trainer.learner import Judge
    from components.trainer.model import make_model
    from components.trainer.precision import choose_precision
    from components.trainer.settings import TrainerSettings
    from components.trainer.strategy import make_strategy
    from components.trainer.training import train

    settings = TrainerSettings.model_validate({**MANUAL, **changes})
    with seeded(settings), tempfile.TemporaryDirectory() as folder:
        precision = choose_precision(settings.precision, make_strategy())
        model = make_model(10, data["train_images"].shape[1], settings.dropout, precision.name, learn_statistics=True)
        if precision.kernel_gradient:
            speed_up_kernel_gradients(model)
        augments = make_augment(settings), None, None
        train_split, eval_split, judge_split = (
            ArraySplit(
                data[f"{split}_images"],
                data[f"{split}_labels"],
                settings.batch_size,
                seed=settings.seed,
                augment=augment,
            )
            for split, augment in zip(SPLITS, augments, strict=True)
        )
        train(model, train_split, eval_split, settings, folder, CheckpointDir(f"{folder}/resume"))
        judged = Judge(model).evaluate(distribute(model.distribute_strategy, judge_split.in_order))
        assert judged is not None
        return judged[1]


def main() -> None:
    """Prints the accuracy of each recipe and its paired difference to `nothing`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the archive of images")
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="only this one, and `nothing`")
    arguments = parser.parse_args()
    data = {}
    parts = {
        "train": ("train", arguments.images, 0),
        "eval": ("train", 1000, arguments.images),
        "judge": ("train", 10000, arguments.images + 1000),
    }
    for split, part in parts.items():
        data[f"{split}_images"], data[f"{split}_labels"] = read_images(arguments.data, *part)
    print(f"machine          {describe_machine()}")
    baseline: list[float] = []
    for name, changes in RECIPES.items():
        if arguments.recipe and name not in ("nothing", *arguments.recipe):
            continue
        length = {"fine_tune_epochs": arguments.epochs}
        accuracies = [measure(data, {**changes, **length, "seed": seed}) for seed in range(1, arguments.seeds + 1)]
        baseline = baseline or accuracies
        differences = [ours - theirs for ours, theirs in zip(accuracies, baseline, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
        print(
            f"{name:<16} accuracy {np.mean(accuracies):.4f}, difference {np.mean(differences):+.4f} "
            f"(standard error {error:.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
