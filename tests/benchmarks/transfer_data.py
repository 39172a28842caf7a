"""The images of the transfer benchmark: one split of each set, and the same pixels for every contender.

Files are listed, checked and stored as ImageExampleGen does, and resized by TFX's Transform with the `photos` preset's
settings; so what the Trainer reads and what the other contenders read is equal, which is checked.
"""

import argparse
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "eval", "test")
SPLIT_FILE = "split.json"
PIXELS_FILE = "pixels.npz"
TEST_SHARE, EVAL_SHARE = 0.25, 0.15
"""Of the images that no folder declares for these splits."""


@dataclass(frozen=True)
class Photo:
    """One usable image.

    Attributes:
        name: its file, relative to the set.
        label: class name.
        declared: `train`, `eval` or `test` where its folder says so, else None.
        sha256: of the file, hexadecimal.
    """

    name: str
    label: str
    declared: str | None
    sha256: str


@dataclass(frozen=True)
class Limits:
    """The most images of a set that each split takes.

    With these, six sets of many images take 100 minutes where VGG16 makes 6 images/s at 224 pixels: fine-tuning as the
    guide does it takes a third of them, and with 300 train images twenty minutes more.
    """

    train: int = 180
    eval: int = 80
    test: int = 200


def split_photos(photos: Iterable[Photo], limits: Limits) -> dict[str, list[Photo]]:
    """Splits a set by the hashes of its images, so that neither names nor the order of the files matter.

    Declared splits stand; what is not declared is cut from train, class by class in proportion. Train takes as many
    images of each class as there are, up to the limit over all; what it leaves goes to the splits that were cut.
    Copies of an image are dropped, but for the one in the most protected split; an image with two labels is dropped.

    Returns:
        Split to photos, in the order of their hashes: classes are mixed.

    Raises:
        ValueError: fewer than two classes, a split without an image, or a class without one in train.
    """
    labels = defaultdict(set)
    kept: dict[str, Photo] = {}
    photos = list(photos)
    for photo in photos:
        labels[photo.sha256].add(photo.label)
        other = kept.get(photo.sha256)
        # The name decides between copies within a split: any would do, but it must be the same one each time.
        if other is None or _protection(photo) > _protection(other):
            kept[photo.sha256] = photo
    pools: dict[str, list[Photo]] = {split: [] for split in SPLITS}
    for photo in kept.values():
        if len(labels[photo.sha256]) == 1:
            pools[photo.declared or "train"].append(photo)
    counts = _cut_counts(len(pools["train"]), {split for split in SPLITS if not pools[split]}, limits)
    chosen = {}
    for split in ("test", "eval"):
        pool = pools[split] or pools["train"]
        chosen[split] = _take(pool, counts.get(split, getattr(limits, split)), in_proportion=True)
        if not pools[split]:
            taken = set(chosen[split])
            pools["train"] = [photo for photo in pool if photo not in taken]
    chosen["train"] = _take(pools["train"], limits.train, in_proportion=False)
    classes = {photo.label for photo in photos}
    if len(classes) < 2:
        raise ValueError(f"it has {len(classes)} class folders, and a classifier needs at least two")
    for split in SPLITS:
        if not chosen[split]:
            raise ValueError(f"no image is left for {split}")
    if missing := sorted(classes - {photo.label for photo in chosen["train"]}):
        raise ValueError(f"the class {missing[0]!r} has no image in train")
    return {split: sorted(chosen[split], key=lambda photo: photo.sha256) for split in SPLITS}


def _protection(photo: Photo) -> tuple[int, str]:
    return SPLITS.index(photo.declared or "train"), photo.name


def _cut_counts(pool: int, missing: set[str], limits: Limits) -> dict[str, int]:
    """Returns how many of `pool` images each missing split takes."""
    shares = {"eval": EVAL_SHARE, "test": TEST_SHARE}
    counts = {
        split: min(getattr(limits, split), max(1, round(share * pool)))
        for split, share in shares.items()
        if split in missing
    }
    left = max(0, pool - sum(counts.values()) - limits.train)
    for split in counts:
        more = min(left, getattr(limits, split) - counts[split])
        counts[split] += more
        left -= more
    return counts


def _take(pool: Iterable[Photo], count: int, in_proportion: bool) -> list[Photo]:
    """Takes the first images of each class by hash: in proportion to the classes, or the same number of each."""
    by_class = defaultdict(list)
    for photo in sorted(pool, key=lambda photo: photo.sha256):
        by_class[photo.label].append(photo)
    ranked = [
        ((rank + 0.5) / len(members) if in_proportion else rank, photo.sha256, photo)
        for members in by_class.values()
        for rank, photo in enumerate(members)
    ]
    return [photo for _, _, photo in sorted(ranked, key=lambda entry: entry[:2])[:count]]


def read_photos(path: str) -> tuple[list[Photo], dict[str, str]]:
    """Returns the usable images of a folder of class folders, and the names of the others with what is wrong.

    Raises:
        UserError: the folder is not laid out as class folders.
    """
    from data.picture import UnusableImage, read_picture
    from data.settings import DataSettings
    from data.sources.image_folder import ImageFolderSource

    settings = DataSettings(source="image_folder", path=path)
    photos, unusable = [], {}
    for image in ImageFolderSource(settings).list_images():
        encoded = Path(path, image.path).read_bytes()
        try:
            if image.problem:
                raise UnusableImage(image.problem)
            read_picture(encoded, settings.max_pixels)
        except UnusableImage as error:
            unusable[image.path] = error.reason
        else:
            photos.append(Photo(image.path, image.label, image.split, hashlib.sha256(encoded).hexdigest()))
    return photos, unusable


def describe_split(split: Mapping[str, list[Photo]]) -> dict[str, Any]:
    """Returns what `SPLIT_FILE` holds: the photos, counts by split and class, and a hash of who is where."""
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update(f"{name} {' '.join(photo.sha256 for photo in split[name])}\n".encode())
    return {
        "counts": {name: len(split[name]) for name in SPLITS},
        "classes": {name: dict(sorted(Counter(photo.label for photo in split[name]).items())) for name in SPLITS},
        "digest": digest.hexdigest(),
        "photos": {name: [asdict(photo) for photo in split[name]] for name in SPLITS},
    }


def read_split(folder: Path) -> dict[str, Any] | None:
    """Returns the `SPLIT_FILE` of a set in the work folder, or None."""
    file = folder / SPLIT_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def transform_photos(path: str, split: Mapping[str, Any], root: Path, image_size: int) -> None:
    """Writes examples, transformed examples, Transform's graph and `PIXELS_FILE` of a set at one size to `root`.

    `PIXELS_FILE` holds, per split, `<split>_images` uint8 [n, size, size, 3] and `<split>_labels` int64 [n], the
    position in `classes`, all in the order of the raw examples.
    """
    import tensorflow as tf

    from components.transform.features import LABEL_VOCABULARY
    from components.transform.resize import resize_image
    from data.decode import decode_image
    from data.image_check import check_image
    from pipeline.config import load_config
    from tests.transform_run import run_transform

    config = load_config("photos", overrides=[f"data.path={json.dumps(path)}", f"transform.image_size={image_size}"])
    settings, max_pixels = config.transform, config.data.max_pixels
    shutil.rmtree(root, ignore_errors=True)  # what a killed attempt left
    root.mkdir(parents=True)
    images = {
        name: [
            (check_image(Path(path, photo["name"]).read_bytes(), max_pixels).encoded, photo["label"])
            for photo in split["photos"][name]
        ]
        for name in SPLITS
    }
    output = run_transform(root, images, settings.model_dump())
    classes = output.vocabulary_by_name(LABEL_VOCABULARY)
    arrays: dict[str, Any] = {"classes": np.array([name.decode() for name in classes])}
    for name in SPLITS:
        pixels = [resize_image(decode_image(tf.constant(encoded)), settings).numpy() for encoded, _ in images[name]]
        arrays[f"{name}_images"] = np.stack(pixels)
        arrays[f"{name}_labels"] = np.array([classes.index(label.encode()) for _, label in images[name]], np.int64)
        _check_equal(root, name, arrays)
    np.savez(root / f"unfinished-{PIXELS_FILE}", **arrays)
    (root / f"unfinished-{PIXELS_FILE}").replace(root / PIXELS_FILE)


def _check_equal(root: Path, split: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a RuntimeError where the transformed examples hold other pixels or labels than the arrays."""
    from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, unpack_images
    from tests.transform_run import read_transformed

    images = arrays[f"{split}_images"]
    found: Counter = Counter()
    for row in read_transformed(root, split):
        pixels = unpack_images([row[TRANSFORMED_IMAGE_KEY]], images.shape[1]).numpy()
        found[pixels.tobytes(), int(row[TRANSFORMED_LABEL_KEY])] += 1
    expected = Counter(
        (pixels.tobytes(), int(label)) for pixels, label in zip(images, arrays[f"{split}_labels"], strict=True)
    )
    if found != expected:
        raise RuntimeError(f"{root}: the transformed examples of {split} are not the pixels of the other contenders")


def prepare_set(path: str, folder: Path, sizes: Iterable[int], limits: Limits) -> None:
    """Splits and transforms one set into its folder in the work folder; what is there already stays."""
    from data.errors import UserError

    folder.mkdir(parents=True, exist_ok=True)
    split = read_split(folder)
    if split is None or split["limits"] != asdict(limits):
        shutil.rmtree(folder)
        folder.mkdir()
        split = {"limits": asdict(limits)}
        try:
            photos, split["unusable"] = read_photos(path)
            split.update(describe_split(split_photos(photos, limits)))
        except (UserError, ValueError) as error:
            split["left_out"] = str(error)
        (folder / "unfinished").write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
        (folder / "unfinished").replace(folder / SPLIT_FILE)
    for size in sizes:
        if "left_out" not in split and not (folder / str(size) / PIXELS_FILE).exists():
            transform_photos(path, split, folder / str(size), size)


def main() -> None:
    """Prepares sets in the work folder: `SET/split.json`, `SET/<size>/`; what is there already stays."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--set", action="append", required=True)
    parser.add_argument("--size", action="append", type=int, required=True)
    for split in SPLITS:
        parser.add_argument(f"--{split}-images", type=int, required=True)
    arguments = parser.parse_args()
    limits = Limits(*(getattr(arguments, f"{split}_images") for split in SPLITS))
    for name in arguments.set:
        prepare_set(str(Path(arguments.data, name)), Path(arguments.work_dir, name), arguments.size, limits)


if __name__ == "__main__":
    main()
