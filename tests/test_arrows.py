"""Imports point one way: pipeline -> components -> data."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.count_code import count

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "data": {"components", "pipeline", "tfx", "tests"},
    "components": {"pipeline", "tests"},
    "pipeline": {"tests"},
}
CLOUD_CLIENTS = {
    "components/google_cloud": ("google.api_core.", "google.auth.", "google.cloud.", "tfx.extensions.google_cloud"),
    "data/amazon_s3": ("boto3.", "botocore.", "s3transfer."),
}
"""Folder of `components` or `data` -> the clients that it alone imports there."""
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}


def imported_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_clients(source: str, clients: tuple[str, ...]) -> Iterator[str]:
    for name in imported_names(source):
        if f"{name}.".startswith(clients):
            yield name


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported_names(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] in FORBIDDEN[package]
    }
    assert not wrong


@pytest.mark.parametrize("folder", CLOUD_CLIENTS)
def test_a_clouds_client_is_imported_in_one_folder_of_nodes_or_images(folder: str) -> None:
    files = [path for package in ("components", "data") for path in (ROOT / package).rglob("*.py")]
    clients = CLOUD_CLIENTS[folder]
    importing = {path for path in files if any(imported_clients(path.read_text(encoding="utf-8"), clients))}
    assert {path.parent for path in importing} == {ROOT / folder}


def test_amazon_s_clients_are_reached_through_two_folders() -> None:
    clients = CLOUD_CLIENTS["data/amazon_s3"]
    files = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    importing = {path for path in files if any(imported_clients(path.read_text(encoding="utf-8"), clients))}
    assert {path.parent for path in importing} == {ROOT / "data/amazon_s3", ROOT / "pipeline/sagemaker"}


def test_the_graph_knows_of_no_cloud() -> None:
    names = set(imported_names((ROOT / "pipeline" / "create_pipeline.py").read_text(encoding="utf-8")))
    assert "components.code_hash.make_code_hash" in names
    clouds = ("components.google_cloud", "pipeline.vertex", "pipeline.sagemaker")
    assert not [name for name in names if name.startswith(clouds)]
    assert not [name for name in names if "endpoint" in name]


def test_the_check_sees_every_form_of_import() -> None:
    source = "import tfx.v1 as tfx\ndef f():\n    from pipeline.config import load_config\n"
    assert list(imported_names(source)) == ["tfx.v1", "pipeline.config.load_config"]
    clients = "import google.auth\nfrom google import api_core\ndef f():\n    from google.cloud.storage import Client\n"
    known = CLOUD_CLIENTS["components/google_cloud"]
    assert list(imported_clients(f"from google.protobuf import message\n{clients}", known)) == [
        "google.auth",
        "google.api_core",
        "google.cloud.storage.Client",
    ]


def test_every_module_is_named_after_one_idea_and_fits_on_a_few_screens() -> None:
    files = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    assert not [path for path in files if path.name in FORBIDDEN_NAMES]
    assert not [path for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 300]


def test_lines_of_code_are_counted_without_comments_and_docstrings() -> None:
    source = '"""A module,\nof two lines."""\n\n# Why.\nx = [\n    1,  # one\n\n    """text""",\n]\n"""Of x."""\n'
    assert count(source) == (4, 3)
