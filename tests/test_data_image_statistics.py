"""Figures of images that a person could name, and histograms that survive a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.image_statistics import (
    SCALES,
    Scale,
    SplitStatistics,
    copy_image_statistics,
    measure_picture,
    read_image_statistics,
    write_image_statistics,
)


def measure(pixels: np.ndarray) -> dict[str, float]:
    return dict(zip(SCALES, measure_picture(Image.fromarray(pixels.astype(np.uint8))), strict=True))


def flat(*colour: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.broadcast_to(np.array(colour), (height, width, 3))


def test_a_flat_picture_has_brightness_and_colour_alone() -> None:
    grey, red = measure(flat(51, 51, 51)), measure(flat(255, 0, 0))
    assert grey["brightness"] == pytest.approx(0.2, abs=1e-6)
    assert grey["contrast"] == pytest.approx(0, abs=1e-6)
    assert grey["sharpness"] == pytest.approx(-6)
    assert grey["colour"] == pytest.approx(0, abs=1e-6)
    assert red["brightness"] == pytest.approx(0.299, abs=1e-6)
    # Hasler and Suesstrunk's 0.3 times the length of the mean (red-green, yellow-blue), here (1, 1/2).
    assert red["colour"] == pytest.approx(0.3 * np.hypot(1, 0.5), abs=1e-6)


def test_contrast_is_the_deviation_of_the_luma_and_a_blur_lowers_sharpness_alone() -> None:
    halves = np.concatenate([flat(0, 0, 0, width=8), flat(255, 255, 255, width=8)], axis=1)
    assert measure(halves)["contrast"] == pytest.approx(0.5, abs=1e-6)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1)).repeat(3, axis=2)
    blurred = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 4
    assert measure(blurred)["sharpness"] < measure(noise)["sharpness"] - 0.5
    assert measure(blurred)["brightness"] == pytest.approx(measure(noise)["brightness"], abs=0.01)


def test_size_and_aspect_are_of_the_picture_itself_though_a_small_copy_is_measured() -> None:
    large = measure(flat(9, 9, 9, height=512, width=1024))
    assert large["size"] == pytest.approx(9.5)
    assert large["aspect"] == pytest.approx(1.0)
    assert measure(flat(9, 9, 9, height=1, width=1000))["aspect"] == pytest.approx(np.log2(1000))


def test_what_lies_beyond_a_scale_is_in_its_end_bins() -> None:
    scale = Scale(0.0, 1.0, 4, "")
    assert [scale.bin_of(value) for value in (-1.0, 0.0, 0.24, 0.25, 0.99, 1.0, 5.0)] == [0, 0, 0, 1, 3, 3, 3]


def test_statistics_survive_a_file_and_a_copy(tmp_path: Path) -> None:
    statistics = SplitStatistics()
    for brightness, label in ((0.1, "ünï"), (0.9, "b"), (0.9, "b")):
        statistics.add(label, (brightness, 0.1, -3.0, 0.2, 8.0, 0.0))
    write_image_statistics({"train": statistics, "test": SplitStatistics()}, str(tmp_path))
    copy_image_statistics(str(tmp_path), str(tmp_path / "model"))
    found = read_image_statistics(str(tmp_path / "model"))
    assert found is not None
    assert found["train"] == statistics
    assert (found["train"].images, found["train"].labels) == (3, {"ünï": 1, "b": 2})
    assert found["train"].mean("brightness") == pytest.approx(1.9 / 3)
    assert found["test"].mean("brightness") is None
    assert sum(found["train"].histograms["brightness"]) == 3
    json.loads((tmp_path / "image_statistics.json").read_text(encoding="utf-8"))


def test_a_model_without_statistics_has_none(tmp_path: Path) -> None:
    copy_image_statistics(str(tmp_path), str(tmp_path / "model"))
    assert read_image_statistics(str(tmp_path / "model")) is None
