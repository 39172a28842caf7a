"""The Trainer's own steps as HLO for one replica."""

import dataclasses
from typing import Any

import pytest
import tensorflow as tf

from components.trainer import lowering
from components.trainer.lowering import (
    LoweredStep,
    PhaseSteps,
    choose_phase,
    count_outputs,
    lower_step,
    make_phase_steps,
)
from components.trainer.settings import ResolvedSettings, TrainerSettings
from components.trainer.widest_plan import plan_widest
from data.errors import UserError

BATCH, CLASSES = 8, 5


@pytest.fixture(scope="module")
def steps(narrow_vgg16: None) -> PhaseSteps:
    settings = ResolvedSettings(fine_tune_blocks=2)
    return make_phase_steps(settings, choose_phase(settings), 32, CLASSES)


@pytest.fixture(scope="module")
def train_step(steps: PhaseSteps) -> LoweredStep:
    return lower_step(steps, "train_step", BATCH)


def with_first(steps: PhaseSteps, operation: Any) -> PhaseSteps:
    """The steps, whose train_step passes its images through `operation` first."""

    def train_step(step: tf.Tensor, mixing: tf.Tensor, images: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
        return steps.train_step(step, mixing, tf.cast(operation(tf.cast(images, tf.float32)), tf.uint8), *rest)

    return dataclasses.replace(steps, train_step=train_step)


def test_the_step_trains_what_the_phase_says(steps: PhaseSteps, train_step: LoweredStep) -> None:
    blocks = (32 * 9 + 1) * 64 + 5 * (64 * 9 + 1) * 64
    assert train_step.trained_parameters == blocks + 64 * CLASSES + CLASSES
    assert train_step.trained_bytes == 4 * train_step.trained_parameters
    # Two moments for each trained variable, and the step's number.
    assert train_step.updated_variables == 3 * len(steps.model.trainable_variables) + 1


def test_the_test_step_writes_nothing(steps: PhaseSteps) -> None:
    step = lower_step(steps, "test_step", BATCH)
    assert (step.trained_parameters, step.trained_bytes, step.updated_variables) == (0, 0, 0)


def test_it_computes_in_bfloat16_at_the_replicas_shapes(steps: PhaseSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr(lowering, "count_outputs", lambda text: texts.append(text) or count_outputs(text))
    step = lower_step(steps, "train_step", BATCH)
    (text,) = texts
    assert f"u8[{BATCH},32,32,3]" in text
    assert step.input_bytes == BATCH * (32 * 32 * 3 + 8 + 4)
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    assert len(convolutions) > 13
    assert all(" = bf16[" in line for line in convolutions)
    assert "custom-call" not in text
    # An updated variable is the memory of the one that came in.
    assert text.partition("\n")[0].count("may-alias") == step.updated_variables


def test_phases_are_the_trainers() -> None:
    assert choose_phase(ResolvedSettings()).name == "fine-tune"
    assert choose_phase(ResolvedSettings(), "head").blocks == 0
    with pytest.raises(UserError, match="phase head: it has no epochs in these settings; there is fine-tune"):
        choose_phase(ResolvedSettings(head_epochs=0), "head")


@pytest.mark.parametrize(
    ("step", "operation"),
    [
        (lambda images: tf.image.resize(images, [32, 32], antialias=True), "ScaleAndTranslate"),
        (lambda images: tf.ensure_shape(tf.numpy_function(lambda x: x, [images], tf.float32), images.shape), "PyFunc"),
    ],
    ids=["antialias", "host"],
)
def test_what_tpus_do_not_have_is_refused(steps: PhaseSteps, step: Any, operation: str) -> None:
    with pytest.raises(UserError) as caught:
        lower_step(with_first(steps, step), "train_step", BATCH)
    message = str(caught.value)
    assert f"train_step cannot be lowered: TPUs do not have {operation} (no XLA kernel)" in message
    assert "\n" not in message


def test_a_routine_of_the_cpu_is_refused(steps: PhaseSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        @staticmethod
        def findall(text: str) -> list[str]:
            return ["Sharding", "lapack_sgeqrf"]

    monkeypatch.setattr(lowering, "_CUSTOM_CALL", Foreign)
    with pytest.raises(UserError, match=r"test_step calls lapack_sgeqrf, routines of the CPU"):
        lower_step(steps, "test_step", BATCH)


@pytest.mark.parametrize(("weights", "learns"), [("none", True), ("imagenet", False)])
def test_norms_learn_where_the_trainers_do(weights: str, learns: bool) -> None:
    settings = ResolvedSettings(backbone="mobilenetv3-small", weights=weights, fine_tune_blocks=4, dropout=0.0)
    model = make_phase_steps(settings, choose_phase(settings), 32, CLASSES).model
    before = [variable.numpy() for variable in model.non_trainable_variables]
    model(tf.random.uniform([4, 32, 32, 3], maxval=255), training=True)
    after = model.non_trainable_variables
    assert any((old != new.numpy()).any() for old, new in zip(before, after, strict=True)) == learns


def test_of_a_recipe_the_blocks_learn_and_the_solved_head_rests(narrow_vgg16: None) -> None:
    plan = plan_widest(TrainerSettings(recipe="balanced"), 32, CLASSES, images=150_000, device="tpu")
    assert plan.settings.head == "solved"
    phase = choose_phase(plan.settings)
    assert phase is not None
    steps = make_phase_steps(plan.settings, phase, 32, CLASSES)
    assert steps.model.pooling == "roots-3"
    assert lower_step(steps, "train_step", BATCH).trained_parameters == 3 * (64 * 9 + 1) * 64


def test_where_nothing_is_stepped_there_is_the_forward_pass(narrow_vgg16: None) -> None:
    settings = plan_widest(TrainerSettings(recipe="quick"), 32, CLASSES, device="tpu").settings
    assert choose_phase(settings) is None
    with pytest.raises(UserError, match="phase head: it has no epochs in these settings; nothing is stepped"):
        choose_phase(settings, "head")
    steps = make_phase_steps(settings, None, 32, CLASSES)
    assert lower_step(steps, "test_step", BATCH).trained_parameters == 0


@pytest.mark.parametrize(
    ("asked", "images", "blocks"),
    [
        ({"recipe": "balanced"}, None, 1),
        ({"recipe": "best"}, None, 5),
        ({"recipe": "best", "fine_tune_blocks": 2}, None, 2),
        ({"recipe": "balanced"}, 400, 0),
        ({"recipe": "quick"}, None, 0),
        ({"recipe": "manual", "fine_tune_blocks": 3}, None, 3),
    ],
)
def test_the_widest_step_of_a_recipe(asked: dict[str, Any], images: int | None, blocks: int) -> None:
    phase = choose_phase(plan_widest(TrainerSettings(**asked), 224, 10, images).settings)
    assert (phase.blocks if phase else 0) == blocks
