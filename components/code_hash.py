"""The hash of a node's own code, so that TFX's cache notices edited code behind an import path."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import components
import data
from components.lane import installed_lane

_ROOTS = {package.__name__: Path(package.__path__[0]) for package in (components, data)}


def _module_path(name: str) -> Path | None:
    """Returns the file of a dotted name in one of our packages, or None where it is no module."""
    root, *rest = name.split(".")
    if root not in _ROOTS:
        return None
    base = _ROOTS[root].joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported_names(path: Path) -> Iterator[str]:
    """Yields every dotted name that a file imports; `from a import b` yields both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_closure(module: str) -> dict[str, Path]:
    """Returns the modules of `components` and `data` that a module reaches by its imports, itself included.

    Args:
        module: dotted name, e.g. `components.trainer.run_fn`.

    Returns:
        Dotted name to file. Packages on the way count too, since importing a module runs them.

    Raises:
        ValueError: the module is not in `components` or `data`.
    """
    if _module_path(module) is None:
        raise ValueError(f"{module} is not a module of {' or '.join(_ROOTS)}")
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        path = _module_path(name)
        if path is None or name in found:
            continue
        found[name] = path
        pending.extend(_imported_names(path))
        if "." in name:
            pending.append(name.rpartition(".")[0])
    return found


def make_code_hash(module: str) -> str:
    """Returns the hexadecimal SHA-256 of a module's import closure: names and contents, independent of paths.

    The lane counts, too: the same code computes other bytes with another TensorFlow or Beam, and a result, a cached
    file or a checkpoint of the other lane is not this one's.
    """
    digest = hashlib.sha256(f"{installed_lane()}\n".encode())
    for name, path in sorted(import_closure(module).items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
