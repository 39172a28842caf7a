"""Our own form of an answer: the likeliest class first, as `pipeline.predict --json` has it."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from components.exported_model.loaded import ModelAnswer
from pipeline.serving.answering import Evidence, Said, Unusable


def render_one(said: ModelAnswer, version: int, evidence: Evidence | None = None) -> dict[str, Any]:
    """Returns the answer to one image, and what the model saw and where the evidence lies if that was asked for."""
    answer = {**_answer(said), "model_version": version}
    if evidence is not None:
        buffer = io.BytesIO()
        Image.fromarray(evidence.seen).save(buffer, "PNG")
        if evidence.heat is not None:
            answer["evidence"] = [[round(value, 3) for value in row] for row in evidence.heat.tolist()]
        answer["seen"] = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return answer


def render_several(names: Sequence[str], said: Sequence[Said], version: int) -> dict[str, Any]:
    """Returns the answers to the images of a form, each with its answer or the reason why it has none."""
    predictions = [{"image": name, **_answer(one)} for name, one in zip(names, said, strict=True)]
    return {"predictions": predictions, "model_version": version}


def _answer(one: Said) -> dict[str, Any]:
    if isinstance(one, Unusable):
        return {"error": one.reason}
    return {key: value for key, value in one.to_json().items() if value is not None}
