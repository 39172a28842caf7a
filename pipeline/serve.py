"""Answers requests with a pushed model, and has a page to try it: `python -m pipeline.serve`."""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError
from pipeline.command_line import EXIT_DONE, CommandLineParser, command, silence_libraries
from pipeline.output_dir import DEFAULT_OUTPUT
from pipeline.serving.limits import DEFAULT_MEGABYTES

DEFAULT_PORT = 8080


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 when it was told to stop and has answered what it took, 2 for the user's mistake.
    """
    silence_libraries()
    arguments = _make_parser().parse_args(argv)
    _check(arguments)
    model = _find_model(arguments.model)
    from pipeline.serving.answering import Answering
    from pipeline.serving.app import Routes, Server
    from pipeline.serving.limits import MEGABYTE, Limits
    from pipeline.serving.model_source import ModelSource
    from pipeline.serving.server import bind, open_log, run
    from pipeline.serving.versions import Versions

    limits = Limits(
        max_bytes=int(arguments.max_megabytes * MEGABYTE),
        max_pixels=arguments.max_pixels or _default_pixels(),
        max_images=arguments.max_images,
        timeout_seconds=arguments.timeout,
        max_queue=arguments.max_queue,
    )
    limits.check()
    source = ModelSource(model, arguments.name)
    taken = bind(arguments.host, arguments.port)
    open_log(arguments.log)
    answering = Answering(limits, arguments.batch_wait_ms / 1000)
    versions = Versions(source, answering.make_batcher, arguments.batch, _tell)
    versions.start()
    routes = Routes(os.environ.get("AIP_HEALTH_ROUTE"), os.environ.get("AIP_PREDICT_ROUTE"))
    server = Server(versions, answering, limits, routes)
    app = server.make_app()
    host, port = taken.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def begun() -> None:
        _tell(f"version {versions.current.number} of {source.name} answers, from {source.uri}")
        _tell(
            f"{address}/ is a page to try it, {address}/docs tells of the rest; the log is {_name_log(arguments.log)}"
        )

    run(server, app, taken, arguments.poll_seconds, begun)
    _tell("stopped; what was taken has been answered")
    return EXIT_DONE


def _make_parser() -> argparse.ArgumentParser:
    parser = CommandLineParser(
        prog="python -m pipeline.serve",
        description="Answers HTTP requests with a pushed model: images as they are, in the forms of TensorFlow Serving,"
        " SageMaker and Vertex AI, and from a page in the browser. Newer versions take over by themselves.",
        epilog="Set by Vertex AI: AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE, AIP_STORAGE_URI.",
    )
    parser.add_argument(
        "--model",
        metavar="DIR",
        default=os.environ.get("AIP_STORAGE_URI") or None,
        help="a pushed version, or the folder of its versions, here, gs:// or s3:// (default: the latest pushed)",
    )
    parser.add_argument("--name", help="what /v1/models/NAME is called (default: the folder of the versions)")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens; 0.0.0.0: to everybody (%(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("AIP_HTTP_PORT") or DEFAULT_PORT,
        help="0: any that is free (%(default)s)",
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="where requests are logged; -: standard error (a file in output/serve)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="images of a batch (default: what measures best at start)"
    )
    parser.add_argument(
        "--batch-wait-ms", type=float, default=5.0, metavar="MS", help="how long a batch waits for more (%(default)s)"
    )
    parser.add_argument(
        "--max-megabytes",
        type=float,
        default=DEFAULT_MEGABYTES,
        metavar="MB",
        help="of a request, of 1,000,000 bytes (%(default)s)",
    )
    parser.add_argument("--max-pixels", type=int, metavar="N", help="of an image (default: data.max_pixels)")
    parser.add_argument("--max-images", type=int, default=64, metavar="N", help="of a request (%(default)s)")
    parser.add_argument(
        "--max-queue", type=int, default=256, metavar="N", help="images at a time; then 503 (%(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=20.0, metavar="SECONDS", help="of a request, at most 20 (%(default)s)"
    )
    parser.add_argument(
        "--poll-seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="how often a newer version is looked for (%(default)s)",
    )
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name, value, least, most in (
        ("port", arguments.port, 0, 65535),
        ("batch", 1 if arguments.batch is None else arguments.batch, 1, 1024),
        ("batch-wait-ms", arguments.batch_wait_ms, 0, 1000),
        ("poll-seconds", arguments.poll_seconds, 0.1, 86400),
    ):
        if not least <= value <= most:
            raise UserError(f"--{name} {value:g}: must be {least} to {most}")
    if arguments.log is None:
        now = datetime.datetime.now(datetime.timezone.utc)
        arguments.log = DEFAULT_OUTPUT / "serve" / f"{now:%Y%m%d-%H%M%S}-{os.getpid()}.log"


def _find_model(given: str | None) -> str:
    from pipeline.model_versions import find_model, no_model

    if given is None:
        return os.path.dirname(find_model(None))
    if "://" not in given and not os.path.isdir(given):
        raise no_model(given)  # here, seconds before TensorFlow is there to look
    return given


def _default_pixels() -> int:
    from data.settings import DataSettings

    return DataSettings().max_pixels


def _name_log(path: Path) -> str:
    return "standard error" if str(path) == "-" else str(path)


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
