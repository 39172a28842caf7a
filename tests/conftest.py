"""What all tests share: an order that keeps two processes busy, and memory that goes back after each file."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Minutes each: started last, one of them would run alone. Files that are not named follow in their own order.
LONGEST = (
    "test_end_to_end",
    "test_serving_validator",
    "test_trainer_run_fn",
    "test_trainer_recipe_runs",
    "test_tuner_search",
    "test_trainer_resume",
    "test_evaluator_executor",
    "test_trainer_standardised_head",
    "test_trainer_prefix_cache",
    "test_image_example_gen",
    "test_trainer_backbones",
)
_LIBC = ctypes.CDLL(None)
# Blocks from 4 MiB on, most of a model's weights, go back to the system once they are freed. glibc's own bound grows to
# the largest block that was freed.
_LIBC.mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """Leaves what was imported out of the collections of garbage to come.

    Python collects all only once a quarter of all long-lived objects are new: with TensorFlow, TFX and Beam imported it
    hardly ever did, while models, which hold themselves in cycles, piled up.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Gives back, after a file's fixtures are gone, what its models held."""
    yield
    if nextitem is None or nextitem.path != item.path:
        if keras := sys.modules.get("tf_keras"):
            keras.backend.clear_session()
        gc.collect()
        _LIBC.malloc_trim(0)


@pytest.fixture(scope="session")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples and Transform's output of `tests.trainer_run.make_images`, at 32 pixels; nobody writes there."""
    from tests.trainer_run import transform_images  # imports TFX, which who hands out the tests does without

    root = tmp_path_factory.mktemp("transform")
    transform_images(root)
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright import sync_api

    from tests.chromium import find_chromium

    chromium = find_chromium()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
