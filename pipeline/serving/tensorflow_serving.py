"""TensorFlow Serving's REST form, and so Vertex AI's: rows (`instances`) or columns (`inputs`) in JSON.

Source: "RESTful API", TensorFlow Serving's documentation; "Custom container requirements for prediction", Vertex AI's.
Where they leave something open: a picture of several that cannot be used has `{"error": REASON}` in place of its
prediction in rows; in columns its values are empty, and a further `errors` has the reason at its place.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.exported_model.loaded import LoadedModel
from components.exported_model.signatures import PIXELS_SIGNATURE, SERVING_SIGNATURE, SIGNATURES
from pipeline.serving.answering import Picture, Said, Unusable
from pipeline.serving.refusals import Refusal

_ANSWERED = (SERVING_SIGNATURE, PIXELS_SIGNATURE)
_URL_SAFE = str.maketrans("-_", "+/")
_TYPES = {"string": "DT_STRING", "float32": "DT_FLOAT", "uint8": "DT_UINT8"}


@dataclass(frozen=True)
class Prediction:
    """What a request asks for.

    Attributes:
        pictures: in its order.
        in_columns: whether it asks in columns, and is answered so.
    """

    pictures: list[Picture]
    in_columns: bool


def parse_prediction(body: bytes, model: LoadedModel) -> Prediction:
    """Reads a request.

    Raises:
        Refusal: it is no such request; what is wrong with one picture of it is in its place.
    """
    request = parse_json(body)
    if not isinstance(request, dict):
        raise Refusal(400, f'the body is {_kind(request)}; send an object such as {{"instances": [{{"b64": "..."}}]}}')
    signature_name = request.get("signature_name") or SERVING_SIGNATURE
    if signature_name not in _answered(model):
        raise Refusal(
            400, f"signature_name is {_shorten(signature_name)}; this server answers {' and '.join(_answered(model))}"
        )
    if ("instances" in request) == ("inputs" in request):
        raise Refusal(400, "send either instances (rows) or inputs (columns)")
    in_columns = "inputs" in request
    argument = SIGNATURES[signature_name].argument
    if in_columns:
        values = _unnamed(request["inputs"], argument, "inputs")
        where = "inputs"
        if not isinstance(values, list):
            raise Refusal(400, f"inputs is {_kind(values)}; it must be a list with one entry an image")
    else:
        rows, where = request["instances"], "instances"
        if not isinstance(rows, list):
            raise Refusal(400, f"instances is {_kind(rows)}; it must be a list with one entry an image")
        values = [_unnamed(row, argument, "instances") for row in rows]
    if not values:
        raise Refusal(400, f"{where} is empty; send at least one image")
    if signature_name == PIXELS_SIGNATURE:
        return Prediction([_read_pixels(value, model) for value in values], in_columns)
    return Prediction([_read_file(value, where) for value in values], in_columns)


def parse_json(body: bytes) -> Any:
    """Returns what is in a body.

    Raises:
        Refusal: it is no JSON in UTF-8, or is nested too deeply, or holds an integer of thousands of digits.
    """
    try:
        return json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8; send JSON, or an image with its Content-Type") from None
    except RecursionError:
        raise Refusal(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise Refusal(400, f"the body is no JSON: {_one_line(str(error))}") from None


def render_prediction(said: Sequence[Said], in_columns: bool) -> dict[str, Any]:
    """Returns the answer of a request in its form."""
    if not in_columns:
        return {"predictions": [_outputs(one) for one in said]}
    keys = list(dict.fromkeys(key for one in said if not isinstance(one, Unusable) for key in _outputs(one)))
    empty: dict[str, Any] = {"labels": [], "probabilities": [], "decision": "", "unknown_score": None}
    outputs = {key: [empty[key] if isinstance(one, Unusable) else _outputs(one)[key] for one in said] for key in keys}
    errors = [one.reason if isinstance(one, Unusable) else None for one in said]
    return {"outputs": outputs, **({"errors": errors} if any(errors) else {})}


def render_status(versions: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Returns the status of versions, of each its number and state (`AVAILABLE`, `LOADING`)."""
    return {
        "model_version_status": [
            {"version": str(number), "state": state, "status": {"error_code": "OK", "error_message": ""}}
            for number, state in versions
        ]
    }


def render_metadata(name: str, version: int, model: LoadedModel) -> dict[str, Any]:
    """Returns the signatures that this server answers, as TensorFlow Serving tells of them."""
    signatures = {
        key: {
            "inputs": _tensors({key_of(key): model.describe_input(key)}),
            "outputs": _tensors(model.describe_outputs(key)),
            "method_name": "tensorflow/serving/predict",
        }
        for key in _answered(model)
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def key_of(signature_name: str) -> str:
    """Returns what a signature's one input is called."""
    return SIGNATURES[signature_name].argument


def _answered(model: LoadedModel) -> list[str]:
    return [name for name in _ANSWERED if model.has_signature(name)]


def _tensors(shapes: dict[str, tuple[str, tuple[int | None, ...]]]) -> dict[str, Any]:
    return {
        name: {
            "dtype": _TYPES[dtype],
            "tensor_shape": {
                "dim": [{"size": str(-1 if side is None else side), "name": ""} for side in shape],
                "unknown_rank": False,
            },
            "name": "",
        }
        for name, (dtype, shape) in shapes.items()
    }


def _unnamed(value: Any, argument: str, where: str) -> Any:
    """Returns the one input of a row, or of all: it may be named or not."""
    if not isinstance(value, dict) or "b64" in value:
        return value
    if list(value) != [argument]:
        names = ", ".join(map(_shorten, list(value)[:5])) or "nothing"
        raise Refusal(400, f"{where} names {names}; the one input is {argument}")
    return value[argument]


def _read_file(value: Any, where: str) -> bytes | Unusable:
    text = value.get("b64") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise Refusal(400, f'{where} holds {_kind(value)}; an image is {{"b64": "its bytes in base64"}}')
    if re.search(r"[^A-Za-z0-9+/]", text[:1000]):  # Seldom: `base64` breaks lines, and some use the letters of URLs.
        text = re.sub(r"\s", "", text).translate(_URL_SAFE)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        return Unusable(f"not base64: {_one_line(str(error))}")


def _read_pixels(value: Any, model: LoadedModel) -> np.ndarray | Unusable:
    shape = model.describe_input(PIXELS_SIGNATURE)[1][1:]
    try:
        pixels = np.asarray(value)
    except (ValueError, OverflowError):
        pixels = np.empty(0, object)
    if pixels.shape != shape or pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        return Unusable(f"pixels must be whole numbers, 0 to 255, in the shape {list(shape)}")
    return pixels.astype(np.uint8)


def _outputs(one: Said) -> dict[str, Any]:
    if isinstance(one, Unusable):
        return {"error": one.reason}
    outputs: dict[str, Any] = {"labels": list(one.labels), "probabilities": list(one.probabilities)}
    if one.decision is not None:
        outputs["decision"] = one.decision
    if one.unknown_score is not None:
        outputs["unknown_score"] = one.unknown_score
    return outputs


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
