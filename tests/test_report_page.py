"""The page in a real browser: nothing is asked for, the matrix answers a click, 1,000 classes are usable."""

import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright import sync_api

from components.report_gen.account import Account, Verdict
from components.report_gen.model_card import render_card
from components.report_gen.page import render_page
from tests.chromium import find_chromium
from tests.report_run import make_test_account

SECTIONS = [
    "verdict",
    "metrics",
    "matrix",
    "classes",
    "slices",
    "calibration",
    "mistakes",
    "labels",
    "duplicates",
    "training",
    "data",
    "drift",
    "serving",
    "run",
    "card",
]


def make_uri(seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def with_pictures(account: Account, count: int) -> Account:
    pictures = {f"test:{i}": make_uri(int(i)) for i in list(account.test_images)[:count]}
    return replace(account, thumbnails=pictures, heat=dict(list(pictures.items())[:5]), heat_layer="block3_conv3")


@pytest.fixture(scope="module")
def account() -> Account:
    return with_pictures(make_test_account(class_count=4, images=200), 60)


@pytest.fixture(scope="module")
def many() -> Account:
    return with_pictures(make_test_account(class_count=1000, images=10_000, baseline=False), 1000)


class Opened:
    """A page from disk, with everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, html: str, width: int, dark: bool = False) -> None:
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", offline=True
        )
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def requests(self) -> list[str]:
        return [url for url in self.asked if not url.startswith(("data:", "file:"))]


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_browser_ci_fails_and_a_person_is_told(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(BaseException, match="no Chromium on this machine") as raised:
        find_chromium()
    assert raised.type is outcome


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_section_is_there_and_nothing_is_asked_of_any_host(
    account: Account, browser: Any, tmp_path: Path, width: int, dark: bool
) -> None:
    opened = Opened(browser, tmp_path / "report.html", render_page(account), width, dark)
    page = opened.page
    page.wait_for_load_state("networkidle")
    assert opened.said == []
    assert opened.requests() == []
    assert [name for name in SECTIONS if page.locator(f"#{name}").count() != 1] == []
    assert page.locator("h1").count() == 1
    # Wide things scroll in their own frames: the page itself never does sideways.
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.locator("#mistakes img.heat").count() > 0
    page.locator("#heat-toggle").uncheck()
    assert page.locator("#mistakes img.heat").first.is_hidden()


def test_a_click_on_a_cell_shows_its_images(account: Account, browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", render_page(account), 1280)
    page = opened.page
    label, answer, count = max((cell for cell in account.matrix["cells"] if cell[0] != cell[1]), key=lambda c: c[2])
    button = page.locator(f'#matrix-view button[data-cell="{label},{answer}"]')
    assert button.inner_text() == str(count)
    button.click()
    panel = page.locator("#cell-images")
    assert panel.locator("h3").inner_text().startswith(f"class {label} taken for class {answer}: {count} image")
    shown = panel.locator("figure .name").all_inner_texts() + panel.locator("code").all_inner_texts()
    wanted = [account.test_images[str(i)]["name"] for i in account.matrix["images"][f"{label},{answer}"]]
    assert sorted(shown) == sorted(wanted)
    assert all(name.startswith(f"class {label}/") for name in shown)
    page.select_option("#matrix-mode", "rows")
    row = sum(cell[2] for cell in account.matrix["cells"] if cell[0] == label)
    assert button.inner_text() == f"{count / row:.2f}"[1:]
    page.locator(f'#class-table button[data-class="{label}"]').click()
    assert panel.locator("h3").inner_text().startswith(f"Mistakes with class {label}: ")
    assert opened.said == []


def test_a_thousand_classes_scroll_and_sort(many: Account, browser: Any, tmp_path: Path) -> None:
    html = render_page(many)
    assert len(html.encode()) < 5_000_000
    opened = Opened(browser, tmp_path / "report.html", html, 1280)
    page = opened.page
    rows = page.locator("#matrix-view tbody th")
    assert 5 < rows.count() < 100
    assert rows.first.inner_text() == "class 0"
    page.evaluate("document.getElementById('matrix-view').scrollTo(15000, 15000)")
    sync_api.expect(rows.first).to_have_text("class 500")
    assert page.locator("#matrix-view thead th").first.inner_text() == "class 500"
    page.evaluate("document.getElementById('matrix-view').scrollTo(1e6, 1e6)")
    sync_api.expect(rows.last).to_have_text("class 999")
    page.select_option("#matrix-order", "errors")
    errors = dict.fromkeys(range(1000), 0)
    for label, answer, count in many.matrix["cells"]:
        if label != answer:
            errors[label] += count
            errors[answer] += count
    assert errors[int(rows.first.inner_text().split()[1])] == max(errors.values())

    heading = page.locator("#class-table th", has_text="Recall")
    heading.locator("button").click()
    texts = page.locator("#class-table tbody td:nth-child(4)").all_inner_texts()
    recalls = [float(text) for text in texts if text[0].isdigit()]
    assert len(recalls) > 900
    assert recalls == sorted(recalls, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    page.fill("#class-filter", "class 77")
    assert page.locator("#class-table tbody tr:visible").count() == 11
    assert opened.said == []
    assert opened.requests() == []


# WCAG's contrast of each cell's text with its colour, which is mixed over the section's.
CONTRASTS = """
(() => {
  const parse = (text) => {
    const [r, g, b, alpha = 1] = text.match(/[\\d.]+/g).map(Number);
    return [...(text.startsWith("rgb") ? [r / 255, g / 255, b / 255] : [r, g, b]), alpha];
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const card = parse(getComputedStyle(document.getElementById("matrix")).backgroundColor);
  return [...document.querySelectorAll("#matrix-view button")].map((button) => {
    const style = getComputedStyle(button), colour = parse(style.backgroundColor);
    const below = light(card.map((v, i) => colour[i] * colour[3] + v * (1 - colour[3])));
    const text = light(parse(style.color));
    return (Math.max(text, below) + 0.05) / (Math.min(text, below) + 0.05);
  });
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_number_of_the_matrix_can_be_read(account: Account, browser: Any, tmp_path: Path, dark: bool) -> None:
    # A cell of every strength.
    cells = [[i % 4, i // 4, 2**i] for i in range(16)]
    page = Opened(
        browser,
        tmp_path / "r.html",
        render_page(replace(account, matrix={**account.matrix, "cells": cells})),
        1280,
        dark,
    ).page
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) == 16
    assert min(contrasts) > 4.4  # WCAG asks for 4.5; halfway between the two colours of text it is a little less


def test_on_paper_everything_is_unfolded_and_nothing_is_empty(
    account: Account, many: Account, browser: Any, tmp_path: Path
) -> None:
    page = Opened(browser, tmp_path / "report.html", render_page(account), 700).page
    page.emulate_media(media="print")
    assert page.locator("#matrix-view").is_visible()
    assert page.locator("nav").is_hidden()
    assert page.locator("details:not([open])").count() > 0
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    page = Opened(browser, tmp_path / "many.html", render_page(many), 1280).page
    page.emulate_media(media="print")
    # Of what scrolls on screen, paper would show one corner.
    assert page.locator("#matrix-view").is_hidden()
    assert page.get_by_text("A matrix of more than 30 classes is not printed.").is_visible()
    assert page.locator("#matrix").bounding_box()["height"] < 1500


def test_the_page_prints_the_evaluations_numbers(account: Account) -> None:
    html = render_page(account)
    for figure in account.headline:
        line = html.split(f'data-metric="{figure.name}"')[1].split("</tr>")[0]
        assert f">{figure.value:.4f}<" in line
    for row in account.classes:
        line = html.split(f'<th scope="row">{row.name}</th>')[1].split("</tr>")[0]
        assert [f"{value:.4f}" for value in (row.precision, row.recall, row.f1)] == re.findall(
            r">(0\.\d{4}|1\.0000)<", line
        )
        assert f'data-value="{row.support}"' in line


def test_names_cannot_break_the_page(account: Account) -> None:
    evil = "</script><script>alert(1)</script>"
    names = [evil, *account.matrix["names"][1:]]
    classes = (replace(account.classes[0], name=evil), *account.classes[1:])
    html = render_page(replace(account, name=evil, classes=classes, matrix={**account.matrix, "names": names}))
    assert "<script>alert" not in html
    assert html.count("</script>") == 2


def test_without_images_there_is_no_picture_but_every_name(account: Account) -> None:
    html = render_page(account.without_images())
    assert "data:image/" not in html
    assert "Pictures are left out" in html
    assert all(account.test_images[str(i)]["name"] in html for i in account.mistakes)


def test_the_model_card_says_where_the_limits_are(account: Account) -> None:
    card = render_card(account)
    assert card.startswith("# Model card: test \\<run\\> & more")
    for title in ("Model", "Intended use", "Training data", "Evaluation", "Limits"):
        assert f"\n## {title}\n" in card
    assert f"Accuracy: {account.headline[0].value:.4f}" in card


def test_the_verdict_names_the_gates_that_refused(account: Account) -> None:
    verdict = Verdict(False, refusals={"drift.gate": "drifted: ...", "serving_validator": "size"})
    page = render_page(replace(account, verdict=verdict))
    assert page.count("not blessed, refused by drift.gate, serving_validator</") == 2  # the title's badge, the section
    earlier = render_page(replace(account, verdict=Verdict(False)))
    assert "<strong>not blessed</strong>, so nothing was pushed" in earlier


def test_formats_are_told_on_page_and_card_where_there_are_some(account: Account) -> None:
    refused = {"kept": False, "reason": "loses 0.2000 of <accuracy>"}
    figures = {"megabytes": 3.5, "milliseconds": 1.25, "accuracy": 0.9}
    record = {
        "reason": None,
        "machine": "x86_64, 2 CPUs",
        "images": 30,
        "calibration_images": 24,
        "saved_model": {**figures, "megabytes": 5.5},
        "formats": {
            "litert": {**figures, "agreement": 0.975, "kept": True, "reason": None},
            "litert-int8": {**figures, "accuracy": 0.7, "agreement": 0.8, **refused},
        },
    }
    page, card = (render(replace(account, formats=record)) for render in (render_page, render_card))
    for text in (page, card):
        assert "of all 30 test images, through the client" in text
        assert "calibrated on 24 images of train" in text
    assert '<td class="number">97.50 %</td>' in page
    assert "loses 0.2000 of &lt;accuracy&gt;" in page
    assert "- litert: 3.5 MB, 1.25 ms, accuracy 0.9000, agrees on 97.50%" in card
    assert "- Refused: litert-int8: loses 0.2000 of \\<accuracy\\>; 3.5 MB" in card
    none = replace(account, formats={**record, "reason": "the model was not pushed", "formats": {}})
    assert "None: the model was not pushed." in render_page(none)
    assert "None: the model was not pushed." in render_card(none)
    assert "Formats" not in render_page(account) + render_card(account)
