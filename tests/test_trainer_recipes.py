"""What the recipes decide, and from which facts."""

from dataclasses import replace
from typing import Any

import pytest

from components.trainer.backbones import BACKBONES, count_features
from components.trainer.recipes import FEWEST_TO_JUDGE, HEAD_STEPS, SOLVER_BYTES, Facts, resolve_recipe
from components.trainer.settings import STEPPED_HEAD_ONLY, ResolvedSettings, TrainerSettings

FACTS = Facts((60,) * 10, (25,) * 10, 224, "cpu", 1, "vgg16", "imagenet", count_features("vgg16"))


def resolve(recipe: str = "balanced", facts: Facts = FACTS, **asked: Any) -> Any:
    return resolve_recipe(TrainerSettings(recipe=recipe, **asked), facts)  # type: ignore[arg-type]


def test_manual_is_the_settings_as_they_are() -> None:
    asked = {"head_epochs": 7, "dropout": 0.1, "fine_tune_blocks": 3}
    plan = resolve("manual", **asked)
    assert plan.settings == ResolvedSettings(recipe="manual", **asked)
    assert (plan.settings.fine_tune_epochs, plan.settings.head, plan.settings.pooling) == (4, "stepped", "last")
    assert plan.reasons == ()


def test_quick_steps_nothing() -> None:
    plan = resolve("quick")
    assert (plan.settings.head, plan.settings.head_epochs, plan.settings.fine_tune_epochs) == ("solved", 0, 0)
    assert plan.poolings == BACKBONES["vgg16"].pooling
    assert plan.passes == 850


@pytest.mark.parametrize("recipe", ["balanced", "best"])
@pytest.mark.parametrize("train", [10, 30, 100, 1000])
@pytest.mark.parametrize("evaluated", [FEWEST_TO_JUDGE, 1000])
def test_no_recipe_is_over_its_budget(recipe: str, train: int, evaluated: int) -> None:
    facts = replace(FACTS, train_counts=(train,) * 10, eval_counts=(evaluated,))
    plan, quick = resolve(recipe, facts), resolve("quick", facts)
    assert plan.passes <= {"balanced": 3.0, "best": 30.0}[recipe] * quick.passes
    if plan.settings.fine_tune_epochs:
        assert plan.settings.warmup_steps >= 1


@pytest.mark.parametrize("recipe", ["balanced", "best"])
def test_nor_is_one_whose_images_the_user_changes(recipe: str) -> None:
    plan = resolve(recipe, random_flip=True)  # each epoch runs the frozen blocks, too
    assert plan.passes <= {"balanced": 3.0, "best": 30.0}[recipe] * resolve("quick").passes


def test_balanced_fine_tunes_what_eval_can_judge() -> None:
    few = replace(FACTS, eval_counts=(FEWEST_TO_JUDGE - 1,))
    plan = resolve(facts=few)
    assert plan.settings.fine_tune_epochs == 0
    assert f"{FEWEST_TO_JUDGE - 1} eval images cannot judge it" in plan.reasons[-1]
    assert resolve().settings.fine_tune_epochs >= 2
    assert resolve().settings.fine_tune_blocks == 1
    assert resolve("best", few).settings.fine_tune_epochs >= 2


def test_on_a_tpu_each_step_runs_the_frozen_blocks() -> None:
    cpu, tpu = (resolve(facts=replace(FACTS, device=device)) for device in ("cpu", "tpu"))  # type: ignore[arg-type]
    assert tpu.settings.fine_tune_epochs == cpu.settings.fine_tune_epochs >= 2
    assert tpu.passes > cpu.passes


def test_less_of_train_chooses_where_a_solve_costs_more_than_the_features() -> None:
    many = replace(FACTS, train_counts=(60,) * 100)
    shares = [resolve("quick", replace(many, image_size=size)).choosing_share for size in (224, 32)]
    assert shares[0] == 1.0
    assert shares[1] < 0.5


def test_random_weights_need_more_than_balanced_has() -> None:
    facts = replace(FACTS, weights="none")
    assert resolve(facts=facts).settings.fine_tune_epochs == 0
    assert resolve("best", facts).settings.fine_tune_blocks == 5


def test_what_is_set_wins() -> None:
    assert resolve(pooling="last").poolings == ("last",)
    plan = resolve("quick", fine_tune_epochs=3, fine_tune_blocks=2, fine_tune_learning_rate=1e-3)
    settings = plan.settings
    assert (settings.fine_tune_epochs, settings.fine_tune_blocks, settings.fine_tune_learning_rate) == (3, 2, 1e-3)
    assert resolve(fine_tune_epochs=0).settings.fine_tune_epochs == 0
    assert resolve("best", random_flip=False).settings.random_flip is False
    assert resolve("best", random_flip=False).settings.random_crop_area == 1.0
    assert resolve("quick", feature_cache_views=2).settings.feature_cache_views == 2


def test_eval_teaches_where_it_is_to() -> None:
    assert not resolve("quick").settings.learn_from_eval
    assert resolve("quick", learn_from_eval=True).settings.learn_from_eval
    teaching, judging = resolve(), resolve(learn_from_eval=False)
    assert teaching.settings.learn_from_eval
    assert not judging.settings.learn_from_eval
    assert judging.settings.feature_cache_views == 1  # of train alone
    no_steps = (resolve(fine_tune_epochs=0, learn_from_eval=value).passes for value in (True, False))
    assert next(no_steps) - next(no_steps) == FACTS.eval_images  # what only teaches has no other use
    assert not resolve(facts=replace(FACTS, hosts=2), learn_from_eval=True).settings.learn_from_eval


def test_what_is_asked_stays_null() -> None:
    asked = TrainerSettings(recipe="balanced")
    resolve_recipe(asked, FACTS)
    assert asked.fine_tune_epochs is None
    assert asked.pooling is None


@pytest.mark.parametrize("name", STEPPED_HEAD_ONLY)
def test_what_only_a_stepped_head_has_is_refused(name: str) -> None:
    value = 2 if name == "head_epochs" else 0.5
    with pytest.raises(ValueError, match=rf"trainer\.{name} is {value}, but with recipe quick .*; set recipe=manual"):
        TrainerSettings.model_validate({"recipe": "quick", name: value})


def test_features_cannot_be_left_uncached() -> None:
    with pytest.raises(ValueError, match=r"feature_cache is off, but recipe best .*; set recipe=manual"):
        TrainerSettings(recipe="best", feature_cache="off")


def test_a_head_that_memory_cannot_hold_is_stepped() -> None:
    images = SOLVER_BYTES // 8 // (FACTS.features + 2 * 10) + 10
    large = replace(FACTS, train_counts=(images // 10 + 1,) * 10)
    plan = resolve("quick", large)
    assert plan.settings.head == "standardised"
    assert plan.settings.head_epochs >= 1
    assert "stepped on standardised features" in plan.reasons[0]
    assert resolve("quick", replace(FACTS, hosts=2)).settings.head == "standardised"
    many = replace(FACTS, train_counts=(images // 15,) * 10)
    assert resolve("balanced", many).settings.head == "solved"
    assert resolve("balanced", many).settings.feature_cache_views == 0  # views would not fit


@pytest.mark.parametrize("batch_size", [32, 256, 1024])
@pytest.mark.parametrize("images", [300_000, 2_000_000])
def test_a_stepped_head_has_as_many_steps_whatever_the_batch(batch_size: int, images: int) -> None:
    facts = replace(FACTS, train_counts=(images // 10,) * 10)
    for recipe in ("quick", "balanced"):
        settings = resolve(recipe, facts, batch_size=batch_size).settings
        steps = -(-images // batch_size)
        assert abs(settings.head_epochs * steps - HEAD_STEPS) <= max(steps - HEAD_STEPS, steps / 2)
        assert settings.early_stopping_patience >= settings.head_epochs  # the rate, and the loss, fall to the end


def test_a_few_images_on_several_hosts_are_not_looked_at_for_ever() -> None:
    facts = replace(FACTS, train_counts=(20,) * 10, hosts=2)
    assert resolve("quick", facts).settings.head_epochs == 100
    assert resolve("quick", replace(facts, device="tpu")).settings.head_epochs == 10  # each runs the whole network


def test_at_most_three_lines_say_why() -> None:
    for recipe in ("quick", "balanced", "best"):
        assert 1 <= len(resolve(recipe).reasons) <= 3


@pytest.mark.parametrize("name", BACKBONES)
def test_the_table_s_shares_are_shares(name: str) -> None:
    spec = BACKBONES[name]
    assert sum(spec.block_shares) == pytest.approx(1.0, abs=0.003)
    assert len(spec.block_shares) == len(spec.channels) == len(spec.blocks)
