"""Which features beyond those of all data sets the examples of one hold: known by a file beside them, if there are any.

Nodes between ImageExampleGen and the Trainer see a graph that is the same for all data sets.
"""

import os

from data.json_files import find_json, write_json

_FILE = "extra_features.json"


def write_extras(extras: tuple[str, ...], examples_uri: str) -> None:
    """Writes the names of the features, of `WEIGHT_KEY` and `GROUP_KEY`, beside raw examples; nothing where none is."""
    if extras:
        write_json(os.path.join(examples_uri, _FILE), list(extras))


def read_extras(examples_uri: str) -> tuple[str, ...]:
    """Returns what `write_extras` wrote."""
    return tuple(find_json(os.path.join(examples_uri, _FILE)) or ())
