"""What the code imports is declared, and what is declared is imported."""

import ast
import re
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib  # Python 3.10

ROOT = Path(__file__).parent.parent
OURS = ("pipeline", "components", "data")

DISTRIBUTIONS = {
    "PIL": "pillow",
    "botocore": "boto3",
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud": "google-cloud-aiplatform",
    "google.protobuf": "protobuf",
    "pydantic_core": "pydantic",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Of imports that have another name than what is installed."""

NOT_IMPORTED = {
    "onnx": "tf2onnx writes with it",
    "dill": "tfx-bsl imports it and does not declare it",
    "python-multipart": "starlette imports it where forms are read, and does not declare it",
    "tensorboard": "a command for the user",
}

ELSEWHERE = {"jax": "locks/tpu-compiler.txt"}
"""What is imported in a process of an environment of its own."""


def imported_distributions(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            package = ".".join([top, *rest[:1]]) if top == "google" else top
            found.add(DISTRIBUTIONS.get(package, package.replace("_", "-")))
    return found - set(OURS) - {name.replace("_", "-") for name in sys.stdlib_module_names}


def declared_distributions() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["vertex"], *extras["aws"], *extras["export"]]
    return {re.split(r"[^A-Za-z0-9_-]", line)[0] for line in lines}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = set().union(
        *(
            imported_distributions(ast.parse(path.read_text(encoding="utf-8")))
            for package in OURS
            for path in (ROOT / package).rglob("*.py")
        )
    )
    assert imported - set(ELSEWHERE) == declared_distributions() - set(NOT_IMPORTED)


def test_the_check_sees_every_form_of_import() -> None:
    tree = ast.parse(
        "import os, PIL.Image\nfrom google.cloud import storage\ndef f():\n    from scipy.stats import t\n"
    )
    assert imported_distributions(tree) == {"pillow", "google-cloud-aiplatform", "scipy"}
