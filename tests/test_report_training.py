"""What page and card say of a training whose head was solved: a row of its own, what was shipped, and why."""

import math
from dataclasses import replace
from typing import Any

import pytest

from components.report_gen import training_text
from components.report_gen.account import account_from_json
from components.report_gen.figures import draw_training
from components.report_gen.model_card import make_card
from components.report_gen.numbers import DASH
from components.report_gen.page import render_page
from tests.report_run import make_test_account

REASONS = ["recipe balanced: 800 train and 240 eval images, 3 classes; head solved on roots-1 or roots-2"]


def row(phase: str, epoch: int, eval_loss: float = 0.5) -> dict[str, Any]:
    figures = {"loss": 0.4, "accuracy": 0.9, "eval_loss": eval_loss, "eval_accuracy": 0.8}
    return {"phase": phase, "epoch": epoch, **figures, "learning_rate": 0.0 if phase == "solve" else 1e-5, "seconds": 1}


def make_training(best: int, gains: tuple[float, ...], eval_loss: float = 0.5) -> dict[str, Any]:
    """Returns the record of a solved head and one epoch for each gain over what was best before it."""
    history = [row("solve", 0, eval_loss), *(row("fine-tune", number + 1) for number in range(len(gains)))]
    solved = {"strength": 0.01, "chosen_on": "folds", "solves": 31, "choice_loss": 0.52}
    return {
        "settings": {"backbone": "vgg16", "recipe": "balanced"},
        "weights": {"kind": "imagenet", "sha256": None},
        "pooling": "roots-2",
        "strategy": "CPU",
        "precision": "float32",
        "history": history,
        "best": history[best],
        "shipped": history[best]["phase"],
        "offers": [{"gain": gain, "noise": 0.01, "won": gain > 0.01} for gain in gains],
        "temperature": 1.25,
        "recipe": {"reasons": REASONS, "solved": solved},
        "versions": {"python": "3.10"},
    }


def make_page(training: dict[str, Any]) -> tuple[str, str]:
    account = replace(make_test_account(class_count=3, images=60), training=training)
    account = account_from_json(account.to_json())
    return render_page(account), "\n".join(make_card(account)["Model"])


def test_a_solved_head_that_nothing_beat_is_what_was_shipped() -> None:
    page, card = make_page(make_training(best=0, gains=(0.002, -0.03)))
    for text in page, card:
        assert REASONS[0] in text
        assert "the solved head (loss on eval 0.5000); none of 2 epochs after it won by more than the noise" in text
        assert "log loss -0.0020, noise 0.0100 at best" in text
        assert "a temperature of 1.25" in text
        assert "square roots of averaged features of the last 2 blocks" in text
        assert "chosen on folds in 31 solves" in text
    assert "in float32 for 2 epochs" in card
    assert "solve (the head, before any step), fine-tune (2 epochs)" in page
    assert '<th scope="row">solve <strong>(kept)</strong></th><td class="number">0</td>' in page


def test_an_epoch_that_won_says_by_how_much() -> None:
    page, card = make_page(make_training(best=2, gains=(0.005, 0.04)))
    for text in page, card:
        assert "epoch 2 of fine-tune, which won by more than the noise of its images: log loss -0.0400" in text
    assert page.count("(kept)") == 1


def test_without_images_of_eval_there_is_a_dash() -> None:
    page, card = make_page(make_training(best=0, gains=(), eval_loss=math.nan))
    assert "nan" not in card.lower().replace("nano", "")
    assert f"the solved head (loss on eval {DASH})" in page
    assert "in float32 for 0 epochs" in card


@pytest.mark.parametrize("kind", ["loss", "accuracy"])
def test_the_solved_head_is_a_dot_of_its_own_at_epoch_0(kind: str) -> None:
    chart = draw_training(make_training(best=0, gains=(0.1, 0.2))["history"], kind)
    # Train and eval: a dot, and a line of two epochs that does not begin in it.
    assert [points.count(",") for points in _points_of(chart)] == [1, 2, 1, 2]
    assert chart.count('class="mark"') == 1
    assert ">0</text>" in chart


def test_a_solved_head_alone_without_eval_is_drawn() -> None:
    history = [{**row("solve", 0), "eval_loss": None, "eval_accuracy": None}]
    assert [points.count(",") for points in _points_of(draw_training(history, "loss"))] == [1]


def test_a_record_from_before_recipes_is_told_as_ever() -> None:
    training = {"history": [row("head", 1), row("fine-tune", 1)], "best": row("fine-tune", 1)}
    assert training_text.shipped_text(training) == "epoch 1 of fine-tune, with the lowest loss on eval (0.5000)"
    assert training_text.phases_text(training) == "head (1 epoch), fine-tune (1 epoch)"
    assert training_text.pooling_text(training) == "averaged features of the last block"
    assert training_text.solved_text(training) is None
    assert training_text.temperature_text(training) is None
    assert list(training_text.recipe_lines(training)) == []


def _points_of(chart: str) -> list[str]:
    return [part.partition('"')[0] for part in chart.split('points="')[1:]]
