"""Flags of a command line that are settings of a cloud: how they and a YAML file become one tree."""

import argparse
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError

if TYPE_CHECKING:  # Of the flags alone, a command that may go to the cloud needs neither these nor what they import.
    from data.section import Settings


@dataclass(frozen=True)
class Flag:
    """A flag and the setting that it sets.

    Attributes:
        name: as in `--tpu`.
        key: the setting, sections with dots.
        metavar: of its value; None for a switch.
        text: its help.
        value: what a switch sets.
    """

    name: str
    key: str
    metavar: str | None
    text: str
    value: Any = None


def add_setting_flags(group: Any, flags: Iterable[Flag]) -> None:
    """Adds flags to a parser, or to a group of its help."""
    for flag in flags:
        # No percent sign of a help text may reach argparse.
        if flag.metavar is None:
            group.add_argument(flag.name, dest=flag.key, action="store_const", const=flag.value, help=flag.text)
        else:
            group.add_argument(flag.name, dest=flag.key, metavar=flag.metavar, help=flag.text)


def add_file_flags(group: Any, cloud: str, example: str) -> None:
    """Adds `--CLOUD-config` and `--CLOUD-set`."""
    group.add_argument(f"--{cloud}-config", metavar="FILE", help="a YAML file with any of the settings; flags win")
    group.add_argument(
        f"--{cloud}-set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help=f"one setting, e.g. {example}; wins over all",
    )


def read_tree(
    arguments: argparse.Namespace, flags: Iterable[Flag], model: "type[Settings]", cloud: str, pairs: str
) -> dict[str, Any]:
    """Returns the settings of file and flags as a tree of plain values: defaults < file < flags < `--CLOUD-set`.

    Args:
        arguments: what was given.
        flags: that `add_setting_flags` added.
        model: whose settings they are.
        cloud: of `add_file_flags`.
        pairs: the flag of KEY=VALUE pairs, and the setting that they are of: `labels`.

    Raises:
        UserError: the file cannot be read, or a flag is not of its form.
    """
    from pipeline.config import merge, nest, parse_override, read_yaml

    given = vars(arguments)
    file = given[f"{cloud}_config"]
    tree: dict[str, Any] = read_yaml(Path(file), model) if file else {}
    for flag in flags:
        if given.get(flag.key) is not None:
            merge(tree, nest(flag.key, given[flag.key]))
    for pair in given.get(pairs) or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--{pairs} {pair}: expected KEY=VALUE, e.g. --{pairs} team=vision")
        merge(tree, {pairs: {key: value}})
    for override in given[f"{cloud}_set"]:
        merge(tree, parse_override(override, f"--{cloud}-set"))
    return tree


def require(tree: dict[str, Any], keys: Collection[str], cloud: str) -> None:
    """Looks whether settings without a default are given.

    Raises:
        UserError: names those that are not.
    """
    missing = [key for key in keys if tree.get(key) is None]
    if missing:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in missing)
        raise UserError(f"{', '.join(missing)} must be known; give {flags}, or put them into the --{cloud}-config file")
