"""YAML as people mean it: without what YAML 1.1 does to numbers, and without keys whose first value is lost."""

import re
from typing import Any

import yaml

# YAML 1.1 takes the first for octal (010 is 8) and the second for base 60 (1:30 is 90).
_SURPRISING = re.compile(r"[-+]?0[\d_]*\d|[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?")


class RepeatedKeyError(yaml.YAMLError):
    """A mapping gives a key twice."""


class _Loader(yaml.SafeLoader):
    """Leaves surprising numbers to the settings' own types (010 is 10, 1:30 no number), and refuses repeated keys."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0] and _SURPRISING.fullmatch(value):
            return "tag:yaml.org,2002:str"
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]  # PyYAML has no types

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                raise RepeatedKeyError(f"gives {key.value} twice, on lines {lines[key.value]} and {line}; keep one")
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Returns the plain values of a YAML text.

    Raises:
        RepeatedKeyError: a key occurs twice.
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, _Loader)
