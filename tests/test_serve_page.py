"""The page of the server in a real browser: a picture in, classes, evidence, doubt and version out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright import sync_api

from tests.images import encode, make_heic, make_text
from tests.serving import Client, make_colour_model, paint, running


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("page") / "colours"
    make_colour_model(root / "12", 12)
    with running(root) as client:
        yield client


@pytest.fixture(params=[(390, "light"), (1280, "dark")], ids=str)
def page(request: pytest.FixtureRequest, browser: Any, client: Client) -> Iterator[Any]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.asked, page.told = [], []
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.goto(f"http://127.0.0.1:{client.port}/")
    yield page
    context.close()


def give(page: Any, name: str, content: bytes, kind: str = "image/png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def test_a_picture_gets_bars_evidence_and_its_version(page: Any, client: Client) -> None:
    give(page, "red.png", paint("red"))
    sync_api.expect(page.locator("#title")).to_have_text("Likeliest: red")
    sync_api.expect(page.locator("#decision")).to_have_text("Decided: red")
    sync_api.expect(page.locator("#unknown")).to_be_hidden()
    sync_api.expect(page.locator("#who")).to_contain_text("Answered by version 12 in ")
    sync_api.expect(page.locator("#status")).to_have_text("Likeliest: red, 51.2 %")
    assert page.locator("#classes li").count() == 3
    widths = page.eval_on_selector_all("#classes .bar div", "bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == sorted(widths, reverse=True)
    # The heat lies over the whole of what the model saw.
    assert page.evaluate("heat.width === 4 && heat.height === 4")
    boxes = [page.locator(selector).bounding_box() for selector in ("#picture", "#heat")]
    assert boxes[0] == boxes[1]
    page.uncheck("#show")
    sync_api.expect(page.locator("#heat")).to_be_hidden()
    # Nothing is wider than the screen, and no other host was asked.
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert {url.split("/")[2] for url in page.asked if not url.startswith("data:")} == {f"127.0.0.1:{client.port}"}
    assert page.told == []


def test_it_says_where_the_model_is_unsure_or_does_not_know(page: Any) -> None:
    give(page, "blue.png", paint("blue"))
    sync_api.expect(page.locator("#decision")).to_have_text("The model is unsure: a person should look.")
    dark = np.zeros((20, 20, 3), np.uint8)
    dark[..., 1] = 5
    give(page, "dark.png", encode(dark, "PNG"))
    sync_api.expect(page.locator("#unknown")).to_contain_text("The model does not know this")
    sync_api.expect(page.locator("#who")).to_contain_text("unlike training: 4.00")


def test_what_cannot_be_used_is_told_and_a_heic_is_shown(page: Any) -> None:
    give(page, "no.jpg", make_text(), "image/jpeg")
    sync_api.expect(page.locator("#alarm")).to_contain_text(
        "This picture cannot be used: not an image that can be read"
    )
    sync_api.expect(page.locator("#result")).to_be_hidden()
    give(page, "a.heic", make_heic(), "")
    sync_api.expect(page.locator("#title")).to_contain_text("Likeliest: ")
    sync_api.expect(page.locator("#alarm")).to_be_hidden()
    page.wait_for_function("picture.complete && picture.naturalWidth === 16")  # Chromium itself cannot read it.


def test_it_can_be_used_by_keyboard_and_is_named_for_a_screen_reader(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Other ways to ask"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    outline = page.eval_on_selector("#file + label", "label => getComputedStyle(label).outlineStyle")
    assert outline == "solid"
    sync_api.expect(page.get_by_label("Choose a picture")).to_have_count(1)
    sync_api.expect(page.get_by_label("Take a photograph")).to_have_count(1)
    assert page.get_attribute("#status", "aria-live") == "polite"


def test_text_can_be_told_from_its_ground(page: Any) -> None:
    """WCAG's contrast of at least 4.5, of each text's own colour on what lies behind it."""
    give(page, "blue.png", paint("blue"))
    sync_api.expect(page.locator("#decision")).to_be_visible()
    contrasts = page.evaluate(
        """() => {
          const channels = (text) => text.match(/[\\d.]+/g).map(Number);
          const bright = ([r, g, b]) => [r, g, b].map((c) => c / 255)
            .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const ground = (node) => {
            for (; node; node = node.parentElement) {
              const colour = channels(getComputedStyle(node).backgroundColor);
              if (colour.length === 3 || colour[3] > 0) return colour;
            }
          };
          return [...document.querySelectorAll("p, h1, h2, a, label, li span")].filter((node) => node.offsetParent)
            .map((node) => [bright(channels(getComputedStyle(node).color)), bright(ground(node))])
            .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
        }"""
    )
    assert len(contrasts) > 10
    assert min(contrasts) >= 4.5


def test_a_model_that_neither_decides_nor_explains_has_its_page_too(browser: Any, tmp_path: Path) -> None:
    make_colour_model(tmp_path / "plain" / "1", 1, decides=False, explains=False)
    with running(tmp_path / "plain") as client:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{client.port}/")
        give(page, "blue.png", paint("blue"))
        sync_api.expect(page.locator("#title")).to_have_text("Likeliest: blue")
        for hidden in ("#decision", "#unknown", "#heat", "#toggle"):
            sync_api.expect(page.locator(hidden)).to_be_hidden()
        sync_api.expect(page.locator("#caption")).to_contain_text("does not tell where the evidence lies")
        page.close()
