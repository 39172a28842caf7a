"""Reads the plain values out of a pickle without running any of it."""

import pickletools
from dataclasses import dataclass
from typing import Any

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class Unbuilt:
    """What unpickling would have built by calling code.

    Attributes:
        callable_name: module and name of the function, such as `numpy dtype`.
        args: what it would have been called with.
        state: what the result would have been given as its state.
    """

    callable_name: str
    args: Any = ()
    state: Any = None


def read_plain_pickle(pickled: bytes) -> Any:
    """Walks the opcodes of a pickle of protocol 2 and returns its value.

    `pickle.loads` runs whatever functions the file names; here they only become `Unbuilt`.

    Args:
        pickled: as Python 2 wrote it: dict, list, tuple, str (read as Latin-1), int, float, bool, None and objects.

    Raises:
        ValueError: it is no such pickle, or uses an opcode that none of these needs.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, arg, _ in pickletools.genops(pickled):
            if opcode.name == "STOP":
                return stack.pop()
            _apply(opcode.name, arg, stack, memo)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a well-formed pickle: {error}") from error
    raise ValueError("the pickle has no end")


def _apply(name: str, arg: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _VALUES:
        stack.append(arg)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[arg] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[arg])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
    elif name == "TUPLE":
        stack.append(tuple(_pop_to_mark(stack)))
    elif name in _TUPLES:
        size = _TUPLES[name]
        stack[-size:] = [tuple(stack[-size:])]
    elif name in ("APPEND", "APPENDS"):
        items = _pop_to_mark(stack) if name == "APPENDS" else [stack.pop()]
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _pop_to_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name == "GLOBAL":
        stack.append(Unbuilt(arg))
    elif name == "REDUCE":
        args = stack.pop()
        stack.append(Unbuilt(stack.pop().callable_name, args))
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    elif name != "PROTO":
        raise ValueError(f"the pickle uses {name}, which no plain value needs")


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] is _MARK:
            items = stack[i + 1 :]
            del stack[i:]
            return items
    raise ValueError("not a well-formed pickle: no mark")
