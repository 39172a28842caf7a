"""What `python -m pipeline.predict --out` does."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from data.section import Settings
from data.settings import UnlabelledDataSettings
from pipeline.command_line import EXIT_DONE

if TYPE_CHECKING:
    from pipeline.scoring.job import ScoringOptions, ScoringPlan
    from pipeline.scoring.place import Place

SHARD_IMAGES, BATCH_SIZE = 1000, 32
_VERTEX_KEYS = ("project", "region", "pipeline_root", "image", "beam.runner", "service_account", "encryption_key")
_PLACE_KEYS = ("project", "region", "vertex_config", "vertex_set")
_NODE = "Scoring"
_NAME = "scoring"


def add_scoring_flags(parser: argparse.ArgumentParser) -> None:
    """Adds to the command's parser what only `--out` needs."""
    from pipeline.vertex.flags import add_flags

    group = parser.add_argument_group("whole folders")
    group.add_argument(
        "--out", metavar="FILE", help="write a row an image: NAME.parquet (a folder of shards), NAME.jsonl or NAME.csv"
    )
    group.add_argument(
        "--shard-images", type=int, metavar="N", help=f"images that are written at once ({SHARD_IMAGES})"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help=f"images in a call of the model ({BATCH_SIZE})")
    group.add_argument(
        "--config", metavar="FILE", help="a YAML file of the pipeline's settings; its data section counts"
    )
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="one setting, such as data.columns.path",
    )
    add_flags(parser, _VERTEX_KEYS, "on Dataflow")


def refuse_scoring_flags(arguments: argparse.Namespace, *, asks_endpoint: bool) -> None:
    """Refuses what says nothing without `--out`, or without an endpoint.

    Raises:
        UserError: names the first.
    """
    given = vars(arguments)
    for key in ("shard_images", "batch_size", "config", "set", *_VERTEX_KEYS, "labels", "vertex_config", "vertex_set"):
        if given[key] and not (asks_endpoint and key in _PLACE_KEYS):
            flag = key.rpartition(".")[2] if key != "beam.runner" else "beam-runner"
            raise UserError(f"--{flag.replace('_', '-')} is for whole folders; give --out, or leave it out")


class _ScoringSettings(Settings):
    """Of the pipeline's settings, those that scoring reads."""

    data: UnlabelledDataSettings = UnlabelledDataSettings()


def score(arguments: argparse.Namespace, model: str) -> int:
    """Scores whole folders.

    Args:
        arguments: of the command.
        model: folder of a SavedModel, local or `gs://`.

    Returns:
        The exit status, 0: images that cannot be used are rows, too.

    Raises:
        UserError: something that was given does not do.
    """
    started = time.monotonic()
    for flag in ("shard_images", "batch_size"):
        if (value := getattr(arguments, flag)) is not None and value < 1:
            raise UserError(f"--{flag.replace('_', '-')} {value}: must be at least 1")
    data = _load_data(arguments)
    from pipeline.scoring.job import ScoringOptions, make_plan, run_here, run_on_beam
    from pipeline.scoring.place import Place

    options = ScoringOptions(
        model, arguments.shard_images or SHARD_IMAGES, arguments.batch_size or BATCH_SIZE, arguments.top_k, data
    )
    place, flags = Place(arguments.out), _beam_flags(arguments, model)
    done: Counter[str] = Counter(images=0, unusable=0)
    with _progress():
        plan = make_plan(arguments.images, place, options)
        if flags is None:
            done = run_here(plan, place, options)
        else:
            run_on_beam(plan, place, options, flags)
        place.finish(len(plan.shards))
    _tell(arguments, plan, place, options, done, time.monotonic() - started)
    return EXIT_DONE


def _load_data(arguments: argparse.Namespace) -> UnlabelledDataSettings:
    from pipeline.config import merge, parse_override, parse_settings, read_yaml

    data: dict[str, Any] = dict((read_yaml(Path(arguments.config)).get("data") or {}) if arguments.config else {})
    for override in arguments.set:
        tree = parse_override(override)
        if set(tree) != {"data"} or not isinstance(tree["data"], dict):
            raise UserError(f"--set {override}: scoring reads settings of data alone, e.g. data.columns.path=NAME")
        merge(data, tree["data"])
    # A source and a path that let all other settings be: what is given to the command takes their place.
    tree = {"data": {**data, "source": "image_folder", "path": "/", "num_spans": 1}}
    return parse_settings(_ScoringSettings, tree).data


def _beam_flags(arguments: argparse.Namespace, model: str) -> tuple[str, ...] | None:
    """Returns Beam's flags on Dataflow; None where this process scores."""
    from pipeline.vertex.flags import load_settings, load_tree

    if load_tree(arguments).get("beam", {}).get("runner", "direct") == "direct":
        return None
    from pipeline.vertex.dataflow import make_beam_args

    flags = make_beam_args(load_settings(arguments), _NAME, _NODE)
    for flag, path in (("--out", arguments.out), ("--model", model), *(("images", path) for path in arguments.images)):
        if not path.startswith("gs://"):
            raise UserError(f"{flag} {path}: Dataflow's workers cannot reach it; give a place in a bucket, gs://...")
    return flags


@contextmanager
def _progress() -> Iterator[None]:
    from rich.console import Console

    from pipeline.display import Display

    display = Display(Console(stderr=True, highlight=False))
    with display.listening():
        display.node_started("predict")
        yield


def _tell(
    arguments: argparse.Namespace,
    plan: "ScoringPlan",
    place: "Place",
    options: "ScoringOptions",
    done: Counter[str],
    seconds: float,
) -> None:
    facts = {
        "out": place.path,
        "images": plan.images,
        "images_before": plan.images - plan.images_missing,
        "unusable_now": done["unusable"],
        "shards": len(plan.shards),
        "version": options.version,
        "seconds": round(seconds, 3),
    }
    if arguments.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    before = f", {facts['images_before']:,} of them before" if facts["images_before"] else ""
    bad = f"; {done['unusable']:,} cannot be used, their rows say why" if done["unusable"] else ""
    print(f"{place.path}: {plan.images:,} images scored{before} by model {options.model} in {seconds:.0f} s{bad}")
    print(f"next  python -m pipeline.watch {place.path} --model {options.model}")
