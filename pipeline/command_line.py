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
