"""What all commands have in common: the parser, the flags of the configuration, the exit statuses."""

import argparse
import contextlib
import errno
import functools
import getpass
import importlib.abc
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from data.errors import Fault, UserError
from pipeline.interruption import EXIT_INTERRUPTED, interruptible, listen_while_loading, was_interrupted

EXIT_DONE, EXIT_FAILED, EXIT_USER_ERROR, EXIT_NOT_BLESSED = 0, 1, 2, 3
EXIT_DRIFTED = 3


class CommandLineParser(argparse.ArgumentParser):
    """Tells a mistake as every other one is told: in one line, without the usage, which hides it in a terminal."""

    def error(self, message: str) -> NoReturn:
        """Ends the parsing.

        Raises:
            UserError: always.
        """
        raise UserError(f"{' '.join(message.split())}; see --help")  # A value may hold line breaks.

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as usual, once `~` is expanded where shells leave it: after `=`, and in quotes.

        Raises:
            UserError: an argument is not UTF-8, which neither TensorFlow nor JSON takes for a path.
        """
        args = list(sys.argv[1:] if args is None else args)
        for argument in args:
            if (printable := os.fsencode(argument).decode("utf-8", "backslashreplace")) != argument:
                raise UserError(
                    f"{printable} is not UTF-8; rename the file or folder (convmv does many), and give that"
                )
        home = re.compile(r"(--[\w-]+=)?(~[^/=]*)(/.*)?", re.DOTALL)
        expanded = [
            f"{match[1] or ''}{os.path.expanduser(match[2] + (match[3] or ''))}" if match else argument
            for argument in args
            for match in [home.fullmatch(argument)]
        ]
        return super().parse_known_args(expanded, namespace)


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


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Keeps off the screen what TensorFlow 2.21 says while it loads: of that it asks no variable first."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Finds TensorFlow, whose loader then runs without a screen; the next import is as always."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def load_quietly(module: ModuleType) -> None:
                from pipeline.display import output_to_log

                with output_to_log(Path(os.devnull), verbose=False):
                    load(module)

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


def silence_libraries() -> None:
    """Keeps off the screen what TensorFlow and Beam say while they load, of their own age and of Python's."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _QuietTensorFlow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietTensorFlow())


def user_name() -> str:
    """Returns who gives the command, for records of decisions; empty where the system has no name for that."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends quietly what prints when `| head` has read enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def find_full_disk(error: BaseException | None) -> str | None:
    """Returns what an error says, in one line, if it or a cause of it is a disk that is full; else None."""
    while error is not None:
        text = " ".join(str(error).split())
        # Beam, TensorFlow and SQLite each tell it in a class of their own.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or re.search(
            r"No space left on device|disk quota exceeded|disk is full", text, re.IGNORECASE
        ):
            return text[-300:]
        error = error.__cause__ or error.__context__
    return None


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
                with interruptible():
                    try:
                        status = act(argv)
                        if not was_interrupted() or status == EXIT_INTERRUPTED:  # Else somebody went on regardless.
                            return status
                        told = interrupted
                    except KeyboardInterrupt as interrupt:
                        told, status = str(interrupt) or interrupted, EXIT_INTERRUPTED
                    except Exception as error:
                        told, status = _explain(error)
                        if was_interrupted():  # Whatever it led to.
                            told = interrupted
                        elif not told:
                            raise
                    status = EXIT_INTERRUPTED if was_interrupted() else status
                    print(f"error: {told}", file=sys.stderr)
                    return status
            except KeyboardInterrupt:  # again, while the first was told
                return EXIT_INTERRUPTED

        return main

    return decorate


def _explain(error: Exception) -> tuple[str, int]:
    """Returns what is told of an error and the exit status; an empty text where only its traceback tells enough."""
    if isinstance(error, UserError):
        return str(error), EXIT_USER_ERROR
    if isinstance(error, Fault):
        return str(error), EXIT_FAILED
    if full := find_full_disk(error):
        return f"the disk is full ({full}); free some of it, and run again", EXIT_USER_ERROR
    return "", EXIT_FAILED


listen_while_loading()
