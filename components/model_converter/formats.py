"""The formats: one entry each. Needs no TensorFlow: the settings are checked against this table."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from data.errors import UserError


@dataclass(frozen=True)
class Format:
    """A format out of TensorFlow.

    Attributes:
        model_file: its name beside the client.
        client_lines: the marks of those lines of `classify.py` that are for it.
        packages: of the extra `export`, without which there is no converting or running it.
    """

    model_file: str
    client_lines: frozenset[str]
    packages: tuple[str, ...] = ()


# TensorFlow has its own converter and interpreter of LiteRT, in both lanes.
FORMATS = {
    "litert": Format("model.tflite", frozenset({"litert", "float"})),
    "litert-int8": Format("model.tflite", frozenset({"litert", "int8"})),
    "onnx": Format("model.onnx", frozenset({"onnx"}), ("onnx", "tf2onnx", "onnxruntime")),
}

if TYPE_CHECKING:
    FormatName: TypeAlias = str
else:
    FormatName = Literal[tuple(FORMATS)]
"""The name of a format."""


def check_installed(formats: Iterable[str]) -> None:
    """Looks whether all that formats need is there, before hours of training end in what cannot be converted.

    Raises:
        UserError: a package is missing.
    """
    for name in formats:
        missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UserError(
                f"export.formats has {name}, for which {' and '.join(missing)} must be installed: in the checkout, run"
                f" pip install '.[export]' (make setup does), or leave {name} out"
            )
