"""Trials of a recipe, with VGG16 on a few images: the head is solved, and what its steps come to is compared."""

from pathlib import Path
from typing import Any

import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from components.trainer.feature_store import FeatureStore
from components.trainer.phases import EpochResult
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.tuner import trial_tuner
from components.tuner.settings import TunerSettings
from components.tuner.trial_tuner import TrialTuner
from data.errors import UserError

RANGES = TunerSettings(enabled=True, max_trials=2, max_epochs=1, fine_tune_blocks=None)


def make_tuner(root: Path, folder: Path, **asked: Any) -> TrialTuner:
    settings = TrainerSettings(weights="none", batch_size=8, precision="float32", fine_tune_blocks=1, **asked)
    config = {
        "trainer": settings.model_dump(mode="json"),
        "image_size": 32,
        "checkpoint_dir": str(folder / "resume"),
        "code_hash": "0",
    }
    (folder / "temporary").mkdir()
    fn_args = FnArgs(
        working_dir=str(folder / "temporary"),
        train_files=[str(root / "transformed" / "Split-train" / "*")],
        eval_files=[str(root / "transformed" / "Split-eval" / "*")],
        transform_graph_path=str(root / "graph"),
        custom_config=config,
    )
    return TrialTuner(settings, RANGES, fn_args)


@pytest.mark.slow
def test_trials_share_a_feature_pass_and_do_not_compete_with_the_solved_head(
    transformed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write, train = FeatureStore._write, trial_tuner.train
    trained: list[tuple[ResolvedSettings, list[EpochResult], EpochResult]] = []

    def note_write(store: FeatureStore, name: str, *rest: Any) -> Any:
        written.append(name)
        return write(store, name, *rest)

    def note_train(*arguments: Any, **options: Any) -> Any:
        history, best = train(*arguments, **options)
        trained.append((arguments[3], history, best))
        return history, best

    monkeypatch.setattr(FeatureStore, "_write", note_write)
    monkeypatch.setattr(trial_tuner, "train", note_train)
    tuner = make_tuner(transformed, tmp_path, recipe="balanced", fine_tune_epochs=10)
    tuner.search()
    assert written == ["train", "train-view-1-0-1-0.5-0", "eval"]
    strengths = {trial.values["augmentation_strength"] for trial in tuner.trials}
    assert len(strengths) == 2
    for trial, (settings, history, best) in zip(tuner.trials, trained, strict=True):
        assert (settings.head, settings.fine_tune_epochs, settings.trivial_augment) == (
            "solved",
            1,
            trial.values["augmentation_strength"],
        )
        # 4 steps an epoch, of which a tenth of all 40 would be warm-up in the Trainer.
        assert settings.warmup_steps == 0
        assert [(row.phase, row.epoch) for row in history] == [("fine-tune", 1)]
        assert trial.eval_loss == best.eval_loss == history[0].eval_loss


def test_what_the_recipe_does_not_fine_tune_cannot_be_tuned(transformed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        make_tuner(transformed, tmp_path, recipe="balanced").search()
    message = str(caught.value)
    assert message.startswith("trainer.recipe balanced does not fine-tune these images (no fine-tuning: ")
    assert message.endswith("set tuner.enabled=false, or recipe to best or manual")
    assert "\n" not in message
