"""The hash of what a node's own code means, so that TFX's cache notices edited code behind an import path."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import components
import data
from components.lane import installed_lane

_ROOTS = {package.__name__: Path(package.__path__[0]) for package in (components, data)}

_READS_DOCSTRINGS = ({"__doc__"}, {"getdoc"}, {"model_json_schema"}, {"model_fields", "description"})
"""Words of a module that together read docstrings: pydantic makes those of attributes the descriptions of fields."""


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


@functools.cache  # By content: nodes share most of their modules.
def _read(source: bytes) -> tuple[list[str], set[str]]:
    """Returns every dotted name that a module imports, and all its words: names and texts.

    `from a import b` imports both `a` and `a.b`.
    """
    imports: list[str] = []
    words: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        words.update(value for _, value in ast.iter_fields(node) if isinstance(value, str))
    return imports, words


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
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _module_path(name)
        if path is None:
            continue
        found[name] = path
        pending.extend(_read(path.read_bytes())[0])
        if "." in name:
            pending.append(name.rpartition(".")[0])
    return found


def make_code_hash(*modules: str) -> str:
    """Returns the hexadecimal SHA-256 of modules' import closure: names and meaning, independent of paths.

    Docstrings count where a module of the closure reads some. Files beside a module that names `__file__`, or below,
    count by their bytes: it reads them.

    The lane counts, too: the same code computes other bytes with another TensorFlow or Beam, and a result, a cached
    file or a checkpoint of the other lane is not this one's.
    """
    closure = sorted({name: path for module in modules for name, path in import_closure(module).items()}.items())
    words = {name: _read(path.read_bytes())[1] for name, path in closure}
    docstrings = any(reading <= found for found in words.values() for reading in _READS_DOCSTRINGS)
    digest = hashlib.sha256(f"{installed_lane()}\n".encode())
    for name, path in closure:
        digest.update(f"{name} {hash_source(path.read_bytes(), docstrings=docstrings)}\n".encode())
        for file in _files_beside(path) if "__file__" in words[name] else ():
            relative = file.relative_to(path.parent).as_posix()
            digest.update(f"{relative} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _files_beside(path: Path) -> Iterator[Path]:
    for file in sorted(path.parent.rglob("*")):
        if file.is_file() and file.suffix not in {".py", ".pyc"} and not file.name.startswith("."):
            yield file


@functools.cache
def hash_source(source: bytes, *, docstrings: bool = False) -> str:
    """Returns the hexadecimal SHA-256 of what a module's text means, equal on all Pythons.

    Args:
        source: of a module.
        docstrings: whether texts that stand alone count; comments and layout never do.
    """
    return hashlib.sha256(_dump(ast.parse(source), docstrings).encode()).hexdigest()


def _dump(node: object, docstrings: bool) -> str:
    """Writes a syntax tree down. `ast.dump` writes others in 3.12 and 3.13, with new fields and without empty ones."""
    if isinstance(node, list):
        kept = [_dump(item, docstrings) for item in node if docstrings or not _stands_alone(item)]
        return f"[{','.join(kept)}]"
    if isinstance(node, (ast.Constant, ast.MatchSingleton)):
        # Not repr: which characters it shows depends on Python's Unicode.
        return f"{type(node).__name__}({node.value!a})"
    if isinstance(node, ast.JoinedStr):  # 3.12.1 ends some formats with an empty text.
        values = [value for value in node.values if not isinstance(value, ast.Constant) or value.value]
        return f"JoinedStr({_dump(values, docstrings)})"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = [f"{name}={_dump(value, docstrings)}" for name, value in ast.iter_fields(node) if value]
    return f"{type(node).__name__}({','.join(fields)})"


def _stands_alone(node: object) -> bool:
    """Tells whether a statement is only a text: a docstring of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
