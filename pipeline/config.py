"""The configuration: one typed, frozen tree, made from a preset, a file and the command line, in this order."""

import copy
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from components.drift_validator.settings import DriftSettings
from components.evaluator.settings import EvaluatorSettings
from components.model_converter.settings import ExportSettings
from components.report_gen.settings import ReportSettings
from components.serving_validator.settings import ServingValidatorSettings
from components.trainer.backbones import BACKBONES
from components.trainer.decision_settings import DecisionSettings
from components.trainer.settings import RECIPE_DECIDES, TrainerSettings
from components.transform.settings import TransformSettings
from components.tuner.settings import TunerSettings, may_fine_tune, tuned_names
from data.errors import UserError
from data.section import LocalPath, Settings
from data.settings import DataSettings
from pipeline.yaml_text import RepeatedKeyError, load_yaml

S = TypeVar("S", bound=Settings)

PRESETS_DIR = Path(__file__).parent / "presets"
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"


class PipelineConfig(Settings):
    """Everything that decides what a run does; where it runs is the command's business."""

    name: str = Field(default="digits", pattern=NAME_PATTERN)
    """Names the pipeline, its output folder and the served model; runs of one name are compared with each other."""

    schema_path: LocalPath | None = None
    """A curated schema (`.pbtxt`) to validate against; without one the schema is inferred from train."""

    serving_model_dir: LocalPath | None = None
    """Where models go, as `<serving_model_dir>/<name>/<version>`: local, `gs://`, `s3://`; else the output folder."""

    data: DataSettings = DataSettings()
    transform: TransformSettings = TransformSettings()
    tuner: TunerSettings = TunerSettings()
    trainer: TrainerSettings = TrainerSettings()
    decision: DecisionSettings = DecisionSettings()
    evaluator: EvaluatorSettings = EvaluatorSettings()
    drift: DriftSettings = DriftSettings()
    serving_validator: ServingValidatorSettings = ServingValidatorSettings()
    export: ExportSettings = ExportSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _check_image_size(self) -> "PipelineConfig":
        size, least = self.transform.image_size, BACKBONES[self.trainer.backbone].min_image_size
        if size < least:
            raise ValueError(
                f"transform.image_size is {size}, but trainer.backbone {self.trainer.backbone} needs at least {least}"
            )
        return self

    @model_validator(mode="after")
    def _check_tuner(self) -> "PipelineConfig":
        blocks, limits = len(BACKBONES[self.trainer.backbone].blocks), self.tuner.fine_tune_blocks
        if limits is not None and max(limits[0], limits[1] or 0) > blocks:
            raise ValueError(
                f"tuner.fine_tune_blocks goes to {max(limits[0], limits[1] or 0)}, but {self.trainer.backbone} has "
                f"{blocks} blocks; use 1..{blocks}"
            )
        if self.tuner.enabled and self.trainer.strategy == "multi_worker":
            raise ValueError("trainer.strategy is multi_worker, which a Tuner cannot use; tune on one machine")
        if self.tuner.enabled and not tuned_names(self.tuner, self.trainer):
            if (recipe := self.trainer.recipe) != "manual" and not may_fine_tune(self.trainer):
                raise ValueError(
                    f"trainer.recipe {recipe} solves the head and steps nothing here: there is nothing to tune; "
                    "set recipe=balanced, best or manual, and fine_tune_epochs to null or more than 0"
                )
            raise ValueError("tuner has no range of anything that is trained; give one of its settings a range")
        return self


@dataclass(frozen=True)
class DataChoice:
    """What `--data PATH` stands for.

    Attributes:
        name: the pipeline's name, unless a file or `--set` names it.
        settings: keys of the `data` section.
    """

    name: str
    settings: dict[str, Any]


def name_from_path(path: str) -> str:
    """Returns a pipeline's name from where its images lie."""
    stem = Path(path.rstrip("/")).name.split(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63].strip("-") or "images"


def preset_names() -> list[str]:
    """Returns the names of the presets that ship with the project."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def load_config(
    preset: str, config_file: str | None = None, data: DataChoice | None = None, overrides: Sequence[str] = ()
) -> PipelineConfig:
    """Builds the configuration: defaults < preset < file < `--data` < `--set`.

    Args:
        preset: one of `preset_names()`.
        config_file: a YAML file with any part of the tree.
        data: replaces the preset's source.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        UserError: an unknown key, a value of the wrong type or range, or an unreadable file.
    """
    if preset not in preset_names():
        raise UserError(f"--preset {preset}: unknown; there are {', '.join(preset_names())}")
    tree = read_yaml(PRESETS_DIR / f"{preset}.yaml")
    chosen = read_yaml(Path(config_file)) if config_file is not None else {}
    overriding = [parse_override(override) for override in overrides]
    _leave_to_recipe(tree, [chosen, *overriding])
    if data is not None:
        tree["name"] = data.name
    merge(tree, chosen)
    if data is not None:
        merge(tree, {"data": data.settings})
    for override_tree in overriding:
        merge(tree, override_tree)
    config = parse_config(tree)
    if config.trainer.weights == "auto" and preset != "digits":
        raise UserError("trainer.weights is auto, which only the digits preset may use; use imagenet, none or a path")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key.startswith("tuner.") and key != "tuner.enabled" and not config.tuner.enabled:
            raise UserError(
                f"--set {override}: nothing is tuned without tuner.enabled=true (run_local: --tune); add it"
            )
    return config


def _leave_to_recipe(preset: dict[str, Any], chosen: Sequence[Mapping[str, Any]]) -> None:
    """Takes out of a preset what its own recipe came with, where the user chooses another one."""
    sections = [tree.get("trainer") for tree in chosen]
    recipes = [section["recipe"] for section in sections if isinstance(section, dict) and section.get("recipe")]
    own = preset.get("trainer", {})
    if recipes and recipes[-1] != own.get("recipe"):
        preset["trainer"] = {name: value for name, value in own.items() if name not in RECIPE_DECIDES}


def parse_config(tree: Mapping[str, Any]) -> PipelineConfig:
    """Validates a tree of plain values.

    Raises:
        UserError: names the first wrong setting, what was found, what is allowed, and how many more are wrong.
    """
    return parse_settings(PipelineConfig, tree)


def parse_settings(model: type[S], tree: Mapping[str, Any]) -> S:
    """Validates a tree of plain values against any tree of settings; see `parse_config`."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first, *more = (_explain(dict(item), model) for item in error.errors())
        raise UserError(first + (f" ({len(more)} more: {'; '.join(more)})" if more else "")) from None


def dump_config(config: PipelineConfig) -> str:
    """Returns the resolved configuration as YAML that `--config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe_settings(model: type[Settings] = PipelineConfig, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields every setting as (key, type, default, description), sections flattened with dots."""
    for name, field in model.model_fields.items():
        if (section := _section(field.annotation)) is not None:
            yield from describe_settings(section, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        if isinstance(default, list | tuple):
            default = [item.model_dump(exclude_none=True) if isinstance(item, Settings) else item for item in default]
        shown = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        yield f"{prefix}{name}", _type_name(field.annotation), shown, " ".join((field.description or "").split())


def _section(annotation: Any) -> type[Settings] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "|".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return "|".join("null" if item is type(None) else _type_name(item) for item in arguments)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is None:
        return str(getattr(annotation, "__name__", annotation))
    return f"{origin.__name__}[{', '.join(_type_name(item) for item in arguments if item is not Ellipsis)}]"


def read_yaml(path: Path, model: type[Settings] = PipelineConfig) -> dict[str, Any]:
    """Reads a file of the settings of `model`.

    Raises:
        UserError: it cannot be read, or holds no sections.
    """
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{path}: cannot be read as a configuration: {reason}") from None
    except RepeatedKeyError as error:
        raise UserError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(
            f"{path}: holds a {type(tree).__name__}, not sections with settings, like 'trainer: {{seed: 1}}'"
        )
    # `trainer:` with nothing below it, or comments only, says nothing.
    return {key: value for key, value in tree.items() if value is not None or not _is_section(key, model)}


def merge(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Puts changes into a tree of settings, section by section at any depth; what they hold is copied."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = copy.deepcopy(value)


def _is_section(key: str, model: type[Settings]) -> bool:
    field = model.model_fields.get(key)
    return field is not None and (_section(field.annotation) is not None or typing.get_origin(field.annotation) is dict)


def nest(key: str, value: Any) -> dict[str, Any]:
    """Returns the tree with one setting, whose key has dots between its sections."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def parse_override(override: str, flag: str = "--set") -> dict[str, Any]:
    """Returns the tree with the one setting of `section.key=value`, the value in YAML.

    Raises:
        UserError: it is none.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{flag} {override}: expected section.key=value, e.g. --set trainer.batch_size=64")
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        raise UserError(f"{flag} {override}: {text!r} is not a YAML value; quote it") from None
    return nest(key.strip(), value)


def _explain(error: dict[str, Any], model: type[Settings]) -> str:
    """Turns one pydantic error into: what was found, what is allowed, what to do."""
    location = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":  # Its `input` is what lacks the key.
        return f"{location} is missing from {error['input']!r}; give it a value"
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(error["loc"][:-1], model)
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1, cutoff=0.4)
        parent = ".".join(str(part) for part in error["loc"][:-1])
        suggestion = f"did you mean {'.'.join(filter(None, [parent, near[0]]))}? " if near else ""
        return f"unknown setting {location}; {suggestion}{parent or 'the configuration'} has {', '.join(allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message if not location or location in message else f"{location}: {message}"
    return f"{location} is {error['input']!r}; {message[0].lower()}{message[1:]}"


def _allowed_keys(location: Sequence[Any], model: type[Settings]) -> list[str]:
    for part in location:
        if part not in model.model_fields:  # an index, or a key of a mapping
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *typing.get_args(annotation)]
        model = next(found for found in map(_section, candidates) if found is not None)
    return list(model.model_fields)
