"""What all commands have in common: the parser, the flags of the configuration, the exit statuses."""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from data.errors import Fault, UserError

EXIT_DONE, EXIT_FAILED, EXIT_USER_ERROR, EXIT_NOT_BLESSED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class CommandLineParser(argparse.ArgumentParser):
    """Tells a mistake as every other one is told: in one line, without the usage, which hides it in a terminal."""

    def error(self, message: str) -> NoReturn:
        """Ends the parsing.

        Raises:
            UserError: always.
        """
        raise UserError(f"{' '.join(message.split())}; see --help")  # A value may hold line breaks.


def add_config_flags(parser: argparse.ArgumentParser, preset: str, data: tuple[str, str] | None = None) -> None:
    """Adds the flags that `pipeline.config.load_config` makes the configuration of.

    Args:
        parser: of the command.
        preset: the default one.
        data: `--data`'s metavar and help; None where the command needs no images.
    """
    from pipeline.config import preset_names  # Here: not every command has settings.

    parser.add_argument("--preset", default=preset, choices=preset_names(), help="settings to start from (%(default)s)")
    if data:
        parser.add_argument("--data", metavar=data[0], help=f"your images: {data[1]}")
    parser.add_argument("--config", metavar="FILE", help="a YAML file of the pipeline's settings; wins over the preset")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="one setting; wins over the file"
    )


def command(interrupted: str = "interrupted") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Makes a command's `main` of what does its work: mistakes and faults end it in one line and an exit status.

    Args:
        interrupted: what an interruption says that says nothing itself.
    """

    def decorate(act: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(act)
        def main(argv: Sequence[str] | None = None) -> int:
            os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # before TensorFlow is imported by anybody
            try:
                return act(argv)
            except UserError as error:
                told, status = str(error), EXIT_USER_ERROR
            except Fault as fault:
                told, status = str(fault), EXIT_FAILED
            except KeyboardInterrupt as interrupt:
                told, status = str(interrupt) or interrupted, EXIT_INTERRUPTED
            print(f"error: {told}", file=sys.stderr)
            return status

        return main

    return decorate
