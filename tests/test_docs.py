"""The pages for people: what they name exists, and the pictures are those that the code draws."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from data.settings import Settings
from docs.draw_design import draw_design
from pipeline.config import PipelineConfig
from pipeline.sagemaker.settings import AwsSettings
from pipeline.vertex.settings import VertexSettings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


def anchors(text: str) -> set[str]:
    """Returns those that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def setting_names(model: type[Settings], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from setting_names(field.annotation, f"{prefix}{name}.")


def wrong_links(page: Path, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        path = page.parent / place if place else page
        if re.match(r"https?:", target):
            continue
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            yield f"{page.name}: {target}"


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 200


def test_links_lead_to_files_and_headings() -> None:
    assert not [wrong for page in PAGES for wrong in wrong_links(page, page.read_text(encoding="utf-8"))]


def test_a_link_to_no_heading_is_seen() -> None:
    text = "[a](docs/training.md#recipes) [b](docs/training.md#recipe) [c](docs/none.md) [d](https://host/#none)"
    wrong = ["README.md: docs/training.md#recipe", "README.md: docs/none.md"]
    assert list(wrong_links(ROOT / "README.md", text)) == wrong


@pytest.mark.parametrize("page", [name for name in TEXTS if name != "CHANGELOG.md"])
def test_what_a_page_names_exists(page: str) -> None:
    text = TEXTS[page]
    settings = {*setting_names(PipelineConfig), *setting_names(VertexSettings), *setting_names(AwsSettings)}
    sections = "|".join({key.partition(".")[0] for key in settings if "." in key})
    named = re.findall(rf"(?:`|--set )((?:{sections})\.(?!html)[a-z][a-z0-9_.]*)\b(?![.*(])", text)
    assert not set(named) - settings
    paths = re.findall(r"(?:^|[` (])((?:pipeline|components|data|tests|docs|locks)/[\w./-]*)(?![\w<*])", text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    targets = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^    )make ([a-z][a-z0-9-]*)", text, re.MULTILINE)) <= set(targets)
    modules = re.findall(r"python -m\s+((?:pipeline|tests|docs)\.[\w.]+\w)", text)
    assert not [name for name in modules if not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()]


def test_make_check_pre_commit_and_ci_check_the_same() -> None:
    (checks,) = re.findall(r"^check: (.*?) ##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = " ".join(hook["entry"] for hook in config["repos"][0]["hooks"])
    ci = re.findall(r"^make (.*)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"{hooks} test".replace("make ", "") == checks == " ".join(ci)


def test_the_pictures_are_drawn_from_the_code() -> None:
    for name, picture in draw_design().items():
        kept = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert kept == picture, f"docs/{name} is not what the code draws: run make pictures, and see the diff"
