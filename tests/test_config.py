"""The configuration: precedence, and one clear line for each mistake."""

from pathlib import Path

import pytest

from data.errors import UserError
from pipeline.config import (
    DataChoice,
    PipelineConfig,
    describe_settings,
    dump_config,
    load_config,
    parse_config,
    preset_names,
)

CHOICE = DataChoice("flowers", {"source": "image_folder", "path": "/flowers"})


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_precedence_is_defaults_preset_file_command_line(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "trainer: {seed: 5, batch_size: 8}\n")
    config = load_config("cifar10", file, overrides=["trainer.seed=6"])
    assert (config.trainer.seed, config.trainer.batch_size) == (6, 8)
    assert config.transform.image_size == 32  # the preset's; the default is larger


def test_data_replaces_the_source_and_keeps_the_other_settings(tmp_path: Path) -> None:
    config = load_config("digits", data=CHOICE)
    assert (config.name, config.data.source, config.data.path) == ("flowers", "image_folder", "/flowers")
    assert config.trainer == load_config("digits").trainer
    named = load_config("digits", write(tmp_path / "c.yaml", "name: mine"), CHOICE)
    assert named.name == "mine"


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_survives_yaml_and_json(preset: str, tmp_path: Path) -> None:
    config = load_config(preset, data=None if preset in ("digits", "cifar10") else CHOICE)
    assert load_config(preset, write(tmp_path / "c.yaml", dump_config(config))) == config
    assert PipelineConfig.model_validate_json(config.model_dump_json()) == config


def test_the_four_presets_are_there() -> None:
    assert preset_names() == ["cifar10", "digits", "imagenet", "photos"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.batchsize=8", "unknown setting trainer.batchsize; did you mean trainer.batch_size?"),
        ("trainr.seed=8", "unknown setting trainr; did you mean trainer?"),
        ("trainer.batch_size=many", "trainer.batch_size is 'many'; input should be a valid integer"),
        ("trainer.batch_size=0", "trainer.batch_size is 0; input should be greater than"),
        ("data.source=imgs", "data.source is 'imgs'; input should be 'digits', "),
        ("name=Has Space", "name is 'Has Space'"),
        ("trainer.backbone=vgg17", "trainer.backbone is 'vgg17'; input should be 'vgg16', 'vgg19', 'resnet50v2'"),
        ("trainer.fine_tune_blocks=6", "trainer.fine_tune_blocks is 6, but vgg16 has 5 blocks; use 0..5"),
        ("trainer.fine_tune_blocks=6", "trainer.fine_tune_blocks is 6, but vgg16 has 5 blocks"),
        ("transform.image_size=31", "transform.image_size is 31, but trainer.backbone vgg16 needs at least 32"),
        (
            "trainer.weights_mirror=ftp://h/w",
            "trainer.weights_mirror is 'ftp://h/w', which is no address of a folder; use",
        ),
        ("trainer.weights_mirror=https://h/w?key=1", "trainer.weights_mirror is 'https://h/w?key=1', which is no"),
        ("trainer.weights_mirror=/mnt/weights", "trainer.weights_mirror is '/mnt/weights', which is no address"),
        ("trainer.seed", "--set trainer.seed: expected section.key=value"),
        ("trainer.seed=[1", "'[1' is not a YAML value"),
        ("trainer=5", "trainer is 5"),
        ("evaluator.gates=[{min: 1}]", "evaluator.gates.0.metric is missing from {'min': 1}; give it a value"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("cifar10", overrides=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError, match=r"unknown setting data\.pth; .*\(1 more: trainer\.seed is"):
        parse_config({"trainer": {"seed": "x"}, "data": {"pth": "y"}})


def test_auto_weights_are_for_the_digits_preset_alone() -> None:
    with pytest.raises(UserError, match=r"trainer\.weights is auto, which only the digits preset may use"):
        load_config("cifar10", overrides=["trainer.weights=auto"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "holds a list"), ("a: [", "is not YAML"), (None, "No such file"), ("\udcff", "is not UTF-8")],
)
def test_an_unreadable_file_is_one_clear_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        load_config("digits", str(path))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "trainer: {seed: 5}\ndata:\n  path: x\ntrainer: {dropout: 0.1}\n")
    with pytest.raises(UserError, match=r"c\.yaml: gives trainer twice, on lines 1 and 4; keep one"):
        load_config("digits", path)


def test_numbers_are_what_people_take_them_for() -> None:
    config = load_config(
        "cifar10", overrides=["trainer.recipe=manual", "trainer.seed=010", "trainer.dropout=1e-1", "name=007"]
    )
    assert (config.trainer.seed, config.trainer.dropout, config.name) == (10, 0.1, "007")
    with pytest.raises(UserError, match=r"trainer\.seed is '1:30'; input should be a valid integer"):
        load_config("cifar10", overrides=["trainer.seed=1:30"])


def test_paths_are_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(
        "photos",
        overrides=["data.source=image_folder", "data.path=photos", "data.class_names=~/n.txt", "schema_path=gs://b/s"],
    )
    assert config.data.path == str(tmp_path / "photos")
    assert (config.data.class_names, config.schema_path) == ("/home/me/n.txt", "gs://b/s")
    assert config.trainer.weights == "imagenet"
    assert parse_config({"trainer": {"weights": "mine.h5"}}).trainer.weights == str(tmp_path / "mine.h5")


def test_every_setting_is_described() -> None:
    rows = list(describe_settings())
    assert {"trainer.batch_size", "data.max_pixels", "evaluator.gates"} <= {key for key, *_ in rows}
    assert not [key for key, _, _, text in rows if not text]
    assert not [kind for _, kind, _, _ in rows if "Annotated" in kind or "=" in kind]
    assert {key: kind for key, kind, _, _ in rows}["trainer.steps_per_execution"] == "auto|int"


def test_a_section_with_comments_only_keeps_the_presets(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "trainer:\n  # seed: 5\n")
    assert load_config("digits", file, overrides=["trainer.seed=6"]).trainer.batch_size == 32


def test_settings_two_sections_deep_are_set_one_by_one() -> None:
    overrides = ["drift.thresholds.size=0.2", "drift.thresholds.colour=0.3"]
    thresholds = load_config("digits", overrides=overrides).drift.thresholds
    assert (thresholds.size, thresholds.colour, thresholds.labels) == (0.2, 0.3, 0.1)


def test_another_recipe_than_the_preset_s_does_not_bring_the_preset_s_steps() -> None:
    trainer = load_config("imagenet", data=CHOICE, overrides=["trainer.recipe=quick"]).trainer
    assert (trainer.recipe, trainer.head_epochs, trainer.fine_tune_epochs) == ("quick", None, None)
    assert trainer.weights == "imagenet"
    for overrides in ([], ["trainer.recipe=manual"]):
        assert load_config("imagenet", data=CHOICE, overrides=overrides).trainer.head_epochs == 1
    with pytest.raises(UserError, match=r"trainer\.head_epochs is 3, but with recipe quick"):
        load_config("digits", overrides=["trainer.head_epochs=3"])
