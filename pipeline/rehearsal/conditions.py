"""`triggerPolicy.condition`: the part of the Common Expression Language that TFX writes; never run as code."""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<string>'[^'\\]*'|\"[^\"\\]*\")|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<symbol>&&|\|\||==|!=|<=|>=|[<>!()\[\].+-]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTANTS = {"true": True, "false": False}
Expression = Callable[[Mapping[str, Any]], Any]


class ConditionError(ValueError):
    """A condition cannot be evaluated for these inputs: Vertex fails the task then, too."""


def evaluate_condition(text: str, inputs: Mapping[str, Any]) -> bool:
    """Evaluates a condition.

    Args:
        text: e.g. `(inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0)`.
        inputs: `artifacts` -> key -> `artifacts` -> list of `uri`, `name` and `metadata`; `parameter_values` -> key.

    Raises:
        ValueError: the text is not of this language.
        ConditionError: something that it names is not there, or it compares what cannot be compared.
    """
    value = parse_condition(text)({"inputs": inputs})
    if not isinstance(value, bool):
        raise ConditionError(f"{text} is {value!r}, not true or false")
    return value


def parse_condition(text: str) -> Expression:
    """Returns the condition as a function of `{"inputs": ...}`.

    Raises:
        ValueError: the text is not of this language.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent: || binds least, then &&, comparisons, +, !, and last the member accesses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"{text!r} has something unknown at {text[position:].strip()[:20]!r}")
            self._tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()

    def parse(self) -> Expression:
        expression = self._either()
        if self._tokens:
            raise ValueError(f"{self._text!r} has something unexpected at {self._tokens[0][1]!r}")
        return expression

    def _accept(self, *symbols: str) -> str:
        if self._tokens and self._tokens[0][0] == "symbol" and self._tokens[0][1] in symbols:
            return self._tokens.pop(0)[1]
        return ""

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise ValueError(f"{self._text!r} lacks a {symbol!r}")

    def _either(self) -> Expression:
        left = self._both()
        while self._accept("||"):
            left = (lambda a, b: lambda scope: _truth(a(scope)) or _truth(b(scope)))(left, self._both())
        return left

    def _both(self) -> Expression:
        left = self._comparison()
        while self._accept("&&"):
            left = (lambda a, b: lambda scope: _truth(a(scope)) and _truth(b(scope)))(left, self._comparison())
        return left

    def _comparison(self) -> Expression:
        left = self._sum()
        symbol = self._accept(*_COMPARISONS)
        if not symbol:
            return left
        right = self._sum()
        return lambda scope: _compare(symbol, left(scope), right(scope))

    def _sum(self) -> Expression:
        left = self._unary()
        while self._accept("+"):
            left = (lambda a, b: lambda scope: _add(a(scope), b(scope)))(left, self._unary())
        return left

    def _unary(self) -> Expression:
        if self._accept("!"):
            inner = self._unary()
            return lambda scope: not _truth(inner(scope))
        if self._accept("-"):
            negated = self._unary()
            return lambda scope: -negated(scope)
        return self._access(self._primary())

    def _primary(self) -> Expression:
        if self._accept("("):
            inner = self._either()
            self._expect(")")
            return inner
        if not self._tokens or self._tokens[0][0] == "symbol":
            raise ValueError(f"{self._text!r} ends early or has a value missing")
        kind, token = self._tokens.pop(0)
        if kind == "number":
            return lambda _: float(token)
        if kind == "string":
            return lambda _: token[1:-1]
        if token in _CONSTANTS:
            return lambda _: _CONSTANTS[token]
        if token in ("int", "double") and self._accept("("):
            inner = self._either()
            self._expect(")")
            return lambda scope: _number(inner(scope))
        if token != "inputs":
            raise ValueError(f"{self._text!r} names {token!r}; only inputs can be named")
        return lambda scope: _member(scope, "inputs")

    def _access(self, left: Expression) -> Expression:
        while symbol := self._accept(".", "["):
            if symbol == ".":
                if not self._tokens or self._tokens[0][0] != "name":
                    raise ValueError(f"{self._text!r} has a '.' without a name")
                key = self._tokens.pop(0)[1]
                left = (lambda a, k: lambda scope: _member(a(scope), k))(left, key)
            else:
                index = self._either()
                self._expect("]")
                left = (lambda a, i: lambda scope: _member(a(scope), i(scope)))(left, index)
        return left


def _member(value: Any, key: Any) -> Any:
    try:
        return value[int(key)] if isinstance(value, list) else value[key]
    except (LookupError, TypeError, ValueError):
        raise ConditionError(f"there is no {key!r}") from None


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConditionError(f"{value!r} is neither true nor false")
    return value


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConditionError(f"{value!r} is no number") from None


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _compare(symbol: str, left: Any, right: Any) -> bool:
    if _kind(left) is not _kind(right):
        raise ConditionError(f"{left!r} and {right!r} are of different kinds and cannot be compared")
    return bool(_COMPARISONS[symbol](left, right))


def _add(left: Any, right: Any) -> Any:
    if _kind(left) is not _kind(right) or isinstance(left, bool):
        raise ConditionError(f"{left!r} and {right!r} cannot be added")
    return left + right
