"""Settings of the trainer section."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from components.trainer.settings import TrainerSettings


def test_settings_survive_json() -> None:
    settings = TrainerSettings(weights="none", fine_tune_blocks=5, precision="bfloat16", seed=7)
    assert TrainerSettings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head_epochs": 0, "fine_tune_epochs": 0}, "nothing would be trained"),
        ({"fine_tune_blocks": 0}, "set fine_tune_blocks to 1..5, or fine_tune_epochs to 0"),
        ({"fine_tune_blocks": 6}, r"trainer\.fine_tune_blocks is 6, but vgg16 has 5 blocks; use 0\.\.5"),
        ({"backbone": "convnext-tiny", "fine_tune_blocks": 5}, r"is 5, but convnext-tiny has 4 blocks; use 0\.\.4"),
        ({"backbone": "convnext-tiny", "fine_tune_blocks": 0}, r"set fine_tune_blocks to 1\.\.4"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"dropout": 1.0}, "less than 1"),
        ({"head_learning_rate": 0.0}, "greater than 0"),
        ({"precision": "float16"}, "'auto', 'float32' or 'bfloat16'"),
        ({"backbone": "vgg17"}, "'vgg16', 'vgg19', .* or 'convnext-tiny'"),
        ({"weights": ""}, "at least 1 character"),
        ({"weight_decay": 0.1}, "set optimizer to adamw or sgd, or weight_decay to 0"),
        ({"strategy": "tpus"}, "'auto', 'tpu', 'mirrored', 'multi_worker' or 'one_device'"),
        ({"random_crop_area": 0.0}, "greater than 0"),
        ({"steps_per_execution": 0}, "greater than or equal to 1"),
        ({"feature_cache_views": 2}, "feature_cache_views is 2, but nothing augments the images .*; set .* to 0"),
        ({"feature_cache_views": 2, "random_flip": True, "feature_cache": "off"}, "but feature_cache is off"),
        ({"feature_cache_views": 2, "random_flip": True, "mixup_alpha": 0.2}, "mix images anew in each step"),
        ({"feature_cache_views": 2, "random_flip": True}, "but head_epochs is 1, and the cache serves two or more"),
        ({"learn_from_eval": True}, "learn_from_eval is true, but with recipe manual .*; set recipe to quick"),
        ({"learning_rate": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainerSettings(**values)


def test_head_alone_is_a_choice() -> None:
    assert TrainerSettings(fine_tune_epochs=0, fine_tune_blocks=0).with_literal_defaults().head_epochs == 1
