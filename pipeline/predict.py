"""Classifies images with a pushed model: `python -m pipeline.predict IMAGE...`, whole folders with `--out FILE`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.exported_model.decision import UNDECIDED
from data.errors import UserError
from pipeline.command_line import (
    EXIT_DONE,
    EXIT_USER_ERROR,
    CommandLineParser,
    command,
    reader_may_leave,
    silence_libraries,
)
from pipeline.model_versions import find_model
from pipeline.scoring.command import BATCH_SIZE, add_scoring_flags, refuse_scoring_flags, score

_ENDPOINT = "endpoint.name"  # As the setting of Vertex AI is called.


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 when every file was classified, 2 when one is no image or the input is wrong; with --out 0
        when every image has its row.
    """
    silence_libraries()
    arguments = _make_parser().parse_args(argv)
    if arguments.top_k is not None and arguments.top_k < 1:
        raise UserError(f"--top-k {arguments.top_k}: must be at least 1")
    endpoint = vars(arguments)[_ENDPOINT]
    if endpoint and (arguments.model or arguments.out):
        raise UserError(f"--endpoint {endpoint}: is asked in place of a model here; leave out --model and --out")
    if arguments.out:
        return score(arguments, find_model(arguments.model))
    refuse_scoring_flags(arguments, asks_endpoint=bool(endpoint))
    if endpoint:
        answers, asked = _ask_endpoint(arguments, endpoint)
    else:
        model_dir = find_model(arguments.model)
        answers, asked = predict(arguments.images, model_dir, arguments.top_k), f"model {model_dir}"
    with reader_may_leave():
        if arguments.json:
            print(json.dumps(answers, indent=2, ensure_ascii=False))
        else:
            _print_table(answers, asked)
    return EXIT_USER_ERROR if any("error" in answer for answer in answers) else EXIT_DONE


def _make_parser() -> argparse.ArgumentParser:
    parser = CommandLineParser(
        prog="python -m pipeline.predict",
        description="Classifies images with a pushed model's own signature; with --out whole folders, tables of "
        "images, archives and TFRecord files, local, gs:// or s3://.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files: JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF, HEIC; with --out one folder, table or archive, too",
    )
    parser.add_argument(
        "--model", metavar="DIR", help="a pushed version, or the folder of its versions (default: the latest pushed)"
    )
    parser.add_argument(
        "--endpoint",
        dest=_ENDPOINT,
        metavar="NAME",
        help="ask this endpoint of Vertex AI in place of a model here; with --project and --region, or --vertex-config",
    )
    parser.add_argument(
        "--top-k", type=int, default=None, metavar="K", help="how many classes to show (default: 1 to 5)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print an array of objects; with --out, one object on what was done"
    )
    add_scoring_flags(parser)
    return parser


def predict(images: Sequence[str], model_dir: Path | str, top_k: int | None = None) -> list[dict[str, Any]]:
    """Classifies image files.

    Args:
        images: paths. Rotated, WebP, CMYK, 16-bit and the like are turned into the picture a person sees first.
        model_dir: a SavedModel with the signature `serving_default`.
        top_k: how many classes to return for each; None for as many as the model answers.

    Returns:
        In the order of `images`: `image` and what `ModelAnswer.to_json` has, or `{"image", "error"}` where the file is
        no usable image.

    Raises:
        UserError: the model cannot be loaded, or `top_k` is beyond what it answers.
    """
    from components.exported_model.loaded import LoadedModel
    from data.picture import UnusableImage
    from data.settings import DataSettings

    model, max_pixels = LoadedModel(model_dir), DataSettings().max_pixels
    if top_k is not None and top_k > model.top_k:
        raise UserError(f"--top-k {top_k}: this model answers at most {model.top_k} classes")
    answers: list[dict[str, Any]] = [{"image": image} for image in images]
    for start in range(0, len(answers), BATCH_SIZE):
        usable = []
        for answer in answers[start : start + BATCH_SIZE]:
            try:
                usable.append((answer, model.prepare(Path(answer["image"]).read_bytes(), max_pixels)))
            except (OSError, UnusableImage) as error:
                answer["error"] = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        said_of = model.answer([prepared for _, prepared in usable]) if usable else []
        for (answer, _), said in zip(usable, said_of, strict=True):
            answer.update(said.to_json(top_k))
    return answers


def _ask_endpoint(arguments: argparse.Namespace, name: str) -> tuple[list[dict[str, Any]], str]:
    """Returns the answers of an endpoint, and what it is."""
    from pipeline.vertex.flags import load_project

    project = load_project(arguments)
    from data.settings import DataSettings
    from pipeline.vertex.cloud import Cloud
    from pipeline.vertex.online import ask, find_online

    online = find_online(Cloud(project.project, project.region), name)
    answers = ask(online, arguments.images, DataSettings().max_pixels, arguments.top_k)
    return answers, f"endpoint {name}, version {online.served}; at most {online.limit}"


def _print_table(answers: Sequence[dict[str, Any]], asked: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pipeline.display import print_table

    table = Table(box=None, pad_edge=False)
    doubts = any(answer.get("decision") == UNDECIDED for answer in answers)
    for column in ("image", "label", "probability", *(["decision"] if doubts else []), "then"):
        table.add_column(column, overflow="fold", justify="right" if column == "probability" else "left")
    for answer in answers:
        if "error" in answer:
            table.add_row(escape(answer["image"]), f"[red]{escape(answer['error'])}[/]")
            continue
        others = ", ".join(f"{item['label']} {item['probability']:.3f}" for item in answer["top_k"][1:])
        sure = [_describe_decision(answer)] if doubts else []
        likeliest = escape(answer["image"]), escape(answer["label"]), f"{answer['probability']:.4f}"
        table.add_row(*likeliest, *sure, escape(others))
    print_table(table)
    print(f"\n{asked}")
    for answer in answers:
        if "sent" in answer:
            print(f"{answer['image']}: sent as {answer['sent']}")


def _describe_decision(answer: dict[str, Any]) -> str:
    if answer["decision"] != UNDECIDED:
        return "decided"
    return "a person's: unknown" if answer["unknown_score"] > 1 else "a person's: unsure"


if __name__ == "__main__":
    sys.exit(main())
