"""Parameter values: what a spec declares, what is given, and whether the two fit."""

import json
from typing import Any

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from data.errors import UserError

# The legacy names (schema 2.0) and today's (2.1); a value of the wrong kind is refused by Vertex at submission.
_KINDS: dict[str, tuple[type, ...]] = {
    "INT": (int,),
    "DOUBLE": (int, float),
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
    "TASK_FINAL_STATUS": (dict,),
}


def kind_of(spec: Any) -> str:
    """Returns the declared kind of a parameter, e.g. `INT` (2.0) or `NUMBER_INTEGER` (2.1); may be ''."""
    if spec.parameter_type:
        return str(pb.ParameterType.ParameterTypeEnum.Name(spec.parameter_type))
    if spec.type:
        return str(pb.PrimitiveType.PrimitiveTypeEnum.Name(spec.type))
    return ""


def is_legacy(spec: Any) -> bool:
    """Tells whether a parameter is declared as schema 2.0 does."""
    return not spec.parameter_type


def fits(kind: str, value: Any) -> bool:
    """Tells whether a value is of the declared kind; an undeclared kind fits nothing."""
    if isinstance(value, bool) and kind != "BOOLEAN":
        return False
    return isinstance(value, _KINDS.get(kind, ()))


def from_message(value: Any) -> Any:
    """Returns the plain value of a `google.protobuf.Value` or of kfp's legacy `Value`; whole numbers become int."""
    if isinstance(value, struct_pb2.Value):
        return _whole(json_format.MessageToDict(value))
    return getattr(value, value.WhichOneof("value")) if value.WhichOneof("value") else None


def to_legacy(value: Any) -> pb.Value:
    """Returns kfp's legacy `Value` of an int, float or str."""
    if isinstance(value, int):
        return pb.Value(int_value=value)
    return pb.Value(double_value=value) if isinstance(value, float) else pb.Value(string_value=str(value))


def to_value(value: Any) -> struct_pb2.Value:
    """Returns the `google.protobuf.Value` of any JSON value."""
    return json_format.ParseDict(value, struct_pb2.Value())


def parse_value(name: str, kind: str, text: str) -> Any:
    """Reads the text of `--parameter NAME=TEXT` as the declared kind.

    Raises:
        UserError: it is not of that kind.
    """
    if kind == "STRING":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not fits(kind, value):
        raise UserError(f"--parameter {name}={text}: the pipeline declares {name} as {kind}; give a value of that kind")
    return value


def _whole(value: Any) -> Any:
    # A Struct knows floats only: 3 comes back as 3.0.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return {key: _whole(item) for key, item in value.items()} if isinstance(value, dict) else value
