"""Reads the plain values out of a pickle without running any of it."""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _PlainUnpickler(pickle.Unpickler):
    """Whatever functions a file names, what it gets for them only remembers its arguments."""

    def find_class(self, module: str, name: str, /) -> Callable[..., Unbuilt]:
        return lambda *args: Unbuilt(f"{module} {name}", args)


def read_plain_pickle(pickled: bytes) -> Any:
    """Returns a pickle's value.

    `pickle.loads` runs whatever functions the file names; here they only become `Unbuilt`.

    Args:
        pickled: as Python 2 wrote it: dict, list, tuple, str (read as Latin-1), int, float, bool, None and objects.

    Raises:
        ValueError: it is no such pickle.
    """
    try:
        return _PlainUnpickler(io.BytesIO(pickled), encoding="latin-1").load()
    except Exception as error:  # Of many types: `pickle` promises none.
        raise ValueError(f"not a well-formed pickle: {error}") from error
