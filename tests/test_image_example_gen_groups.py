"""ImageExampleGen on images with groups and weights, on near duplicates, and on the newest of several deliveries."""

import hashlib
import io
import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from PIL import Image

from components.image_example_gen import alike, executor
from data.errors import UserError
from data.extras import read_extras
from data.features import SPLITS
from data.near_duplicates import LEAST_COSINE, VALUES, describe_image, join_alike
from data.sources.source import SourceImage
from tests import images
from tests.test_image_example_gen import read_all, read_split, read_summary, run_in


class ListedSource:
    """Images in memory."""

    def __init__(self, listed: list[SourceImage]) -> None:
        self._listed = listed

    def fingerprint(self) -> str:
        return "listed"

    def prepare(self) -> list[str]:
        return []

    def read(self) -> beam.PTransform:
        return beam.Create(self._listed)


def make_images(**marks) -> list[SourceImage]:
    """60 images of two classes; each mark is a function of the number."""
    random = np.random.default_rng(0)
    return [
        SourceImage(
            f"{number}.png",
            ("cat", "dog")[number % 2],
            None,
            images.encode(random.integers(0, 256, [8, 8, 3]).astype(np.uint8), "PNG"),
            **{name: mark(number) for name, mark in marks.items()},
        )
        for number in range(60)
    ]


def run_on(listed, folder, monkeypatch, **settings):
    monkeypatch.setattr(executor, "make_source", lambda _: ListedSource(listed))
    return run_in(folder, **settings)


def test_examples_hold_weights_and_groups_where_an_image_has_one(tmp_path, monkeypatch):
    listed = make_images(
        group=lambda number: f"patient {number // 4}" if number < 40 else None, weight=lambda number: 1.0 + number % 3
    )
    artifact = run_on(listed, tmp_path, monkeypatch, eval_share=0.3, test_share=0.3)
    rows = {row["file_name"].decode(): (split, row) for split in SPLITS for row in read_split(artifact, split)}
    assert len(rows) == 60
    for image in listed:
        split, row = rows[image.name]
        assert row["weight"] == image.weight
        name = image.group or image.encoded
        key = hashlib.sha256(name.encode() if isinstance(name, str) else name).hexdigest()
        assert row["group"] == key.encode()
        assert all(other == split for other, found in rows.values() if found["group"] == row["group"])
    assert read_extras(artifact.uri) == ("weight", "group")
    summary = read_summary(artifact)
    assert summary["weighted"]
    assert summary["groups"] == {"groups": 10, "images": 40, "near_duplicates": 0, "divided": 0, "dropped": 0}


def test_without_any_examples_are_as_ever(tmp_path, monkeypatch):
    artifact = run_on(make_images(), tmp_path, monkeypatch, eval_share=0.3, test_share=0.3)
    assert {key for row in read_all(artifact) for key in row} == {
        *("image", "label", "file_name", "height", "width", "format", "content_sha256")
    }
    assert read_extras(artifact.uri) == ()
    assert not {"groups", "weighted", "spans"} & read_summary(artifact).keys()
    assert not (Path(artifact.uri) / "extra_features.json").exists()


def resaved(encoded: bytes, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(encoded)).convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def make_resaved(tree: Path) -> dict[str, str]:
    """Puts a resaved copy beside every second image; returns its path -> that of the image."""
    found = {}
    for number, path in enumerate(sorted(tree.rglob("*.*"))):
        picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, [8, 8, 3]).astype(np.uint8))
        picture.resize((64, 64)).save(path.with_suffix(".png"))
        if path.suffix != ".png":
            path.unlink()
        if number % 2:
            copy = path.with_name(f"{path.stem}-resaved.jpg")
            copy.write_bytes(resaved(path.with_suffix(".png").read_bytes(), 85))
            found[copy.relative_to(tree).as_posix()] = path.with_suffix(".png").relative_to(tree).as_posix()
    return found


def test_near_duplicates_stay_together_where_that_is_asked(tmp_path, monkeypatch):
    tree = images.make_image_tree(tmp_path / "images", ["cat", "dog"], per_class=30, size=64)
    pairs = make_resaved(tree)
    asked = {"source": "image_folder", "path": str(tree), "eval_share": 0.3, "test_share": 0.3}
    divided = []
    for near_duplicates in ("tell", "keep_together"):
        artifact = run_in(tmp_path, near_duplicates, near_duplicates=near_duplicates, **asked)
        splits = {row["file_name"].decode(): split for split in SPLITS for row in read_split(artifact, split)}
        divided.append(sum(splits[copy] != splits[image] for copy, image in pairs.items()))
    assert divided[0] > 5
    assert divided[1] == 0
    assert read_summary(artifact)["groups"]["near_duplicates"] == 2 * len(pairs)
    assert read_extras(artifact.uri) == ("group",)
    monkeypatch.setattr(alike, "_MOST_IMAGES", 89)
    with pytest.raises(UserError, match="there are 90 different images; it is offered up to 89: set it to tell"):
        run_in(tmp_path, "many", near_duplicates="keep_together", **asked)


def test_chains_of_near_duplicates_are_found_block_by_block(monkeypatch):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(50, VALUES)).astype(np.float32) / np.float32(VALUES**0.5)
    for one, other in ((3, 40), (40, 17), (5, 6), (30, 49)):
        vectors[other] = vectors[one] + 0.15 * random.normal(size=VALUES) / VALUES**0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[8, 9]] = 0.0  # of one colour: like nothing
    assert (vectors @ vectors.T >= LEAST_COSINE).sum() == 48 + 2 * 4  # 3 and 17 by way of 40 alone
    names = [f"{number:02}" for number in range(50)]
    expected = {"17": "03", "40": "03", "06": "05", "49": "30"}
    assert join_alike(names, vectors) == expected
    monkeypatch.setattr("data.near_duplicates._BLOCK", 2)
    assert join_alike(names, vectors) == expected


def test_what_no_descriptor_can_be_made_of_is_like_nothing():
    assert not describe_image(b"no image").any()


def test_a_run_reads_the_newest_delivery_and_says_so(tmp_path):
    for number in (1, 2):
        images.make_image_tree(tmp_path / f"day-{number}", ["cat", "dog"], per_class=30, size=8)
    artifact = run_in(tmp_path, source="image_folder", path=f"{tmp_path}/day-{{SPAN}}", eval_share=0.3, test_share=0.3)
    assert read_summary(artifact)["spans"] == [{"span": 2, "path": f"{tmp_path}/day-2"}]
    shutil.rmtree(tmp_path / "day-1")
    assert read_summary(artifact)["images_read"] == 60
