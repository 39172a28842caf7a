"""How many of their 16 bits a channel the images of a data set use: recorded with the examples and with the model."""

import os

from data.json_files import find_json, write_json

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Cameras of 12 bits and scanners of 14 leave the upper ones 0: read as 16, their pictures would be nearly black."""
WHOLE = BIT_DEPTHS[-1]

_FILE = "bit_depth.json"


def least_bit_depth(peak: int) -> int:
    """Returns the smallest of `BIT_DEPTHS` that holds a value, 0..65535."""
    return next(depth for depth in BIT_DEPTHS if peak < 2**depth)


def write_bit_depth(bit_depth: int, examples_uri: str) -> None:
    """Writes it beside examples, raw or transformed, in a local or remote folder."""
    write_json(os.path.join(examples_uri, _FILE), bit_depth)


def read_bit_depth(examples_uri: str) -> int:
    """Returns what `write_bit_depth` wrote; 16 where there is none, as in examples of an older version."""
    return find_json(os.path.join(examples_uri, _FILE)) or WHOLE
