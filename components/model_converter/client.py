"""What lies beside a converted model: its client, the names of the classes, and how an image becomes its input."""

import json
from pathlib import Path
from typing import Any

from components.exported_model.manifest import Manifest
from components.model_converter.formats import FORMATS
from components.transform.features import CHANNELS

CLIENT_FILE = "classify.py"
LABELS_FILE = "labels.txt"
PREPROCESSING_FILE = "preprocessing.json"

_MARK = "  #: "


def write_companions(folder: Path, format: str, manifest: Manifest) -> None:
    """Writes the client, `labels.txt` (a class a line, in the order of the probabilities) and `preprocessing.json`."""
    (folder / CLIENT_FILE).write_text(make_client(format, manifest), encoding="utf-8")
    (folder / LABELS_FILE).write_text("".join(f"{name}\n" for name in manifest.classes), encoding="utf-8")
    described = json.dumps(describe_preprocessing(format, manifest), indent=2)
    (folder / PREPROCESSING_FILE).write_text(f"{described}\n", encoding="utf-8")


def make_client(format: str, manifest: Manifest) -> str:
    """Returns the client of a model: of `classify.py` the lines that are for its format and its way of resizing.

    A line that ends with `#: ` and words is for those alone.
    """
    chosen = {*FORMATS[format].client_lines, manifest.aspect, manifest.resize_method}
    chosen.add("area" if manifest.resize_method == "area" else "kernel")
    lines = (line.partition(_MARK) for line in Path(__file__).with_name(CLIENT_FILE).read_text("utf-8").splitlines())
    return "".join(f"{code}\n" for code, mark, words in lines if not mark or chosen.intersection(words.split()))


def describe_preprocessing(format: str, manifest: Manifest) -> dict[str, Any]:
    """Returns what another client must do with an image, and what the model gives, of plain JSON types."""
    side = manifest.image_size
    return {
        "format": format,
        "image_size": side,
        "aspect": manifest.aspect,
        "resize_method": manifest.resize_method,
        "antialias": True,
        "rounding": "half to even",
        "orientation": "as EXIF says",
        "transparency": "over white",
        "bit_depth": manifest.bit_depth,
        "input": {
            "name": "pixels",
            "layout": "NHWC",
            "shape": [1, side, side, CHANNELS],
            "dtype": "uint8",
            "range": [0, 255],
            "channel_order": "RGB",
        },
        "output": {
            "name": "probabilities",
            "shape": [1, len(manifest.classes)],
            **({"dtype": "uint8", "scale": 1 / 256} if format == "litert-int8" else {"dtype": "float32", "scale": 1.0}),
        },
    }
