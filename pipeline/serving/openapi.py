"""The server's own description of itself, OpenAPI 3.1, made from its limits."""

from typing import Any
from urllib.parse import quote

from components.exported_model.manifest import PROJECT_VERSION
from components.exported_model.signatures import SERVING_SIGNATURE, SIGNATURES
from pipeline.serving.limits import Limits
from pipeline.serving.request_log import MODEL_VERSION, REQUEST_ID

Json = dict[str, Any]

_B64: Json = {
    "type": "object",
    "properties": {"b64": {"type": "string", "description": "an image file's bytes in base64"}},
    "required": ["b64"],
}
_ARGUMENT = SIGNATURES[SERVING_SIGNATURE].argument
_SCORES: Json = {
    "decision": {"type": "string", "description": 'the class that may be acted upon; "" where a person should look'},
    "unknown_score": {"type": "number", "description": "above 1 the model does not know what it sees"},
}
_LABEL: Json = {"label": {"type": "string"}, "probability": {"type": "number", "minimum": 0, "maximum": 1.001}}
_ERROR: Json = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_REFUSED = {
    400: "The request or its only picture cannot be used.",
    413: "The body is too large, or holds too many images.",
    503: "The queue is full or the answer took too long: send it again, after Retry-After seconds.",
}


def make_openapi(name: str, limits: Limits, health: str | None = None, predict: str | None = None) -> Json:
    """Returns the description of a server whose model has a name; `health` and `predict` are further addresses."""
    model = f"/v1/models/{quote(name, safe='')}"
    image: Json = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    own_body = {
        "image/*": image,
        "application/octet-stream": image,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "format": "binary"}},
                "required": ["image"],
            }
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}},
    }
    tensorflow_body = {"application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}}}
    explain: Json = {
        "name": "explain",
        "in": "query",
        "description": "true: tell where the evidence lies, too, for a single image and a model that can",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
    number: Json = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    status, metadata = "#/components/schemas/Status", "#/components/schemas/Metadata"
    any_answer = ["Answer", "Answers", "Rows", "Columns"]
    own = _operation("Classify an image, a form of images, or TensorFlow Serving's JSON", own_body, any_answer)
    tensorflow = _operation("Classify, in TensorFlow Serving's form", tensorflow_body, ["Rows", "Columns"])
    paths: Json = {
        "/predict": {"post": {**own, "parameters": [explain]}},
        "/invocations": {"post": {**own, "summary": "As /predict, for SageMaker"}},
        "/ping": {"get": _health("SageMaker: can the server answer?")},
        f"{model}:predict": {"post": tensorflow},
        f"{model}/versions/{{version}}:predict": {"post": _of_version(tensorflow, number)},
        model: {"get": _look("Which version answers", status)},
        f"{model}/versions/{{version}}": {"get": _of_version(_look("Whether a version answers", status), number)},
        f"{model}/metadata": {"get": _look("The signatures that are answered", metadata)},
        f"{model}/versions/{{version}}/metadata": {
            "get": _of_version(_look("The signatures of a version", metadata), number)
        },
        "/metrics": {"get": _text("Counters, in Prometheus's form", "text/plain")},
    }
    if health:
        paths.setdefault(health, {})["get"] = _health("Vertex AI: can the server answer?")
    if predict:
        paths.setdefault(predict, {})["post"] = {**tensorflow, "summary": "Vertex AI's predict: instances"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"The image classifier {name}",
            "version": PROJECT_VERSION,
            "description": (
                f"Images: JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF, HEIC. At most {limits.max_bytes:,} bytes a request,"
                f" {limits.max_pixels:,} pixels an image, {limits.max_images} images a request,"
                f" {limits.timeout_seconds:g} s. Each answer names its version in {MODEL_VERSION}, each request its id"
                f" in {REQUEST_ID}. A picture of several that cannot be used has the reason in place of its answer."
            ),
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _operation(summary: str, content: Json, answers: list[str]) -> Json:
    schemas = [{"$ref": f"#/components/schemas/{answer}"} for answer in answers]
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "The answer, by one version.",
                "headers": {MODEL_VERSION: {"schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {"anyOf": schemas}}},
            },
            **{str(code): _error(text) for code, text in _REFUSED.items()},
        },
    }


def _of_version(operation: Json, parameter: Json) -> Json:
    responses = {**operation["responses"], "404": _error("This version is not served.")}
    return {**operation, "parameters": [parameter], "responses": responses}


def _look(summary: str, schema: str) -> Json:
    content = {"application/json": {"schema": {"$ref": schema}}}
    return {"summary": summary, "responses": {"200": {"description": "As asked.", "content": content}}}


def _health(summary: str) -> Json:
    schema: Json = {"type": "object", "properties": {"model_version": {"type": "integer"}}}
    content = {"application/json": {"schema": schema}}
    responses = {"200": {"description": "It can.", "content": content}, "503": _error("It is stopping.")}
    return {"summary": summary, "responses": responses}


def _text(summary: str, kind: str) -> Json:
    content = {kind: {"schema": {"type": "string"}}}
    return {"summary": summary, "responses": {"200": {"description": "As asked.", "content": content}}}


def _error(description: str) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _schemas() -> Json:
    signature: Json = {"signature_name": {"type": "string", "enum": [SERVING_SIGNATURE]}}
    named: Json = {"type": "object", "properties": {_ARGUMENT: _B64}, "required": [_ARGUMENT]}
    column: Json = {"type": "array", "items": _B64, "minItems": 1}
    answer = {
        **_LABEL,
        "top_k": {"type": "array", "items": {"type": "object", "properties": _LABEL, "required": list(_LABEL)}},
        **_SCORES,
    }
    version: Json = {"model_version": {"type": "integer"}}
    row: Json = {
        "type": "object",
        "properties": {
            "labels": {"type": "array", "items": {"type": "string"}},
            "probabilities": {"type": "array", "items": {"type": "number"}},
            **_SCORES,
        },
        "required": ["labels", "probabilities"],
    }
    return {
        "Prediction": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        **signature,
                        "instances": {"type": "array", "items": {"anyOf": [_B64, named]}, "minItems": 1},
                    },
                    "required": ["instances"],
                },
                {
                    "type": "object",
                    "properties": {
                        **signature,
                        "inputs": {
                            "anyOf": [
                                column,
                                {"type": "object", "properties": {_ARGUMENT: column}, "required": [_ARGUMENT]},
                            ]
                        },
                    },
                    "required": ["inputs"],
                },
            ]
        },
        "Answer": {
            "type": "object",
            "properties": {
                **answer,
                **version,
                "evidence": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
                "seen": {"type": "string", "description": "what the model saw, as a data: address of a PNG"},
            },
            "required": ["label", "probability", "top_k", "model_version"],
        },
        "Answers": {
            "type": "object",
            "properties": {
                "predictions": {
                    "type": "array",
                    "items": {
                        "anyOf": [{"type": "object", "properties": {"image": {"type": "string"}, **answer}}, _ERROR]
                    },
                },
                **version,
            },
            "required": ["predictions", "model_version"],
        },
        "Rows": {
            "type": "object",
            "properties": {"predictions": {"type": "array", "items": {"anyOf": [row, _ERROR]}}},
            "required": ["predictions"],
        },
        "Columns": {
            "type": "object",
            "properties": {
                "outputs": {"type": "object"},
                "errors": {"type": "array", "items": {"type": ["string", "null"]}},
            },
            "required": ["outputs"],
        },
        "Status": {
            "type": "object",
            "properties": {"model_version_status": {"type": "array", "minItems": 1}},
            "required": ["model_version_status"],
        },
        "Metadata": {
            "type": "object",
            "properties": {"model_spec": {"type": "object"}, "metadata": {"type": "object"}},
            "required": ["model_spec", "metadata"],
        },
        "Error": _ERROR,
    }
