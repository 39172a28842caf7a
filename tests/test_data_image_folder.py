"""Image folders: layouts, names, what the fingerprint sees, and each layout that is refused."""

import os
import re

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from data.errors import UserError
from data.settings import DataSettings
from data.sources import make_source
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests import images


def source_of(root, **settings):
    return make_source(DataSettings(source="image_folder", path=str(root), **settings))


def put(path, encoded=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.make_png() if encoded is None else encoded)


def listed(root, **settings):
    return {i.path: (i.label, i.split) for i in source_of(root, **settings).list_images() if i.problem is None}


def test_class_folders(tmp_path):
    put(tmp_path / "cat" / "1.JPG")
    put(tmp_path / "cat" / "deep" / "er" / "2.png")
    put(tmp_path / "wilder Löwe" / "été.webp")
    put(tmp_path / "wilder Löwe" / "no_suffix")
    put(tmp_path / "wilder Löwe" / "notes.txt")
    put(tmp_path / "wilder Löwe" / ".hidden.png")
    put(tmp_path / "__MACOSX" / "cat" / "1.JPG")
    put(tmp_path / "labels.csv")
    for name in ("2.png.xmp", "IMG_1.AAE", "IMG_1.MOV", "run.log", "list.zip"):
        put(tmp_path / "cat" / name)
    put(tmp_path / "cat" / "@eaDir" / "1.JPG" / "SYNOPHOTO_THUMB_XL.jpg")
    put(tmp_path / "$RECYCLE.BIN" / "S-1-5" / "$R1.png")
    (tmp_path / "lost+found").mkdir()
    assert source_of(tmp_path).prepare() == [
        *("$RECYCLE.BIN", "__MACOSX", "cat/2.png.xmp", "cat/@eaDir", "cat/IMG_1.AAE", "cat/IMG_1.MOV", "cat/list.zip"),
        *("cat/run.log", "labels.csv", "lost+found", "wilder Löwe/.hidden.png", "wilder Löwe/notes.txt"),
    ]
    assert listed(tmp_path) == {
        "cat/1.JPG": ("cat", None),
        "cat/deep/er/2.png": ("cat", None),
        "wilder Löwe/été.webp": ("wilder Löwe", None),
        "wilder Löwe/no_suffix": ("wilder Löwe", None),
    }


def test_declared_splits_in_any_case(tmp_path):
    for split in ("Train", "VAL", "valid", "validation", "dev", "test"):
        put(tmp_path / split / "cat" / "1.png")
    assert listed(tmp_path) == {
        "Train/cat/1.png": ("cat", "train"),
        "VAL/cat/1.png": ("cat", "eval"),
        "valid/cat/1.png": ("cat", "eval"),
        "validation/cat/1.png": ("cat", "eval"),
        "dev/cat/1.png": ("cat", "eval"),
        "test/cat/1.png": ("cat", "test"),
    }


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train", "seg_test"),
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("TrainImages", "testset"),
        ("train2017", "test2017"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train", "test_set"),
    ],
)
def test_a_word_of_a_folders_name_declares_its_split(tmp_path, train, test):
    for split in (train, test):
        put(tmp_path / split / "cat" / "1.png")
    put(tmp_path / train / "dog" / "1.png")
    assert listed(tmp_path) == {
        f"{train}/cat/1.png": ("cat", "train"),
        f"{train}/dog/1.png": ("dog", "train"),
        f"{test}/cat/1.png": ("cat", "test"),
    }


def test_words_of_splits_in_the_names_of_classes_among_others(tmp_path):
    for name in ("train_station", "test_tube", "cat"):
        put(tmp_path / name / "1.png")
    assert {label for label, _ in listed(tmp_path).values()} == {"train_station", "test_tube", "cat"}


def test_imagenets_layout(tmp_path):
    """`val` is the test split, the unlabelled `test` is left out, and folders get their names from the list."""
    put(tmp_path / "train" / "n01" / "1.JPEG")
    put(tmp_path / "val" / "n01" / "2.JPEG")
    put(tmp_path / "test" / "3.JPEG")
    names = tmp_path / "names.txt"
    names.write_text("n01 tench, Tinca tinca\n")
    folders = {"eval": (), "test": ("val",)}
    assert listed(tmp_path, split_folders=folders, class_names=str(names)) == {
        "train/n01/1.JPEG": ("tench, Tinca tinca", "train"),
        "val/n01/2.JPEG": ("tench, Tinca tinca", "test"),
    }


def test_train_can_be_a_class(tmp_path):
    for name in ("train", "car", "plane"):
        put(tmp_path / name / "1.png")
    put(tmp_path / "train" / "more" / "2.png")
    assert set(listed(tmp_path).values()) == {("train", None), ("car", None), ("plane", None)}


def test_a_stray_image_in_train_makes_no_classes_of_the_splits(tmp_path):
    for split in ("train", "val"):
        put(tmp_path / split / "cat" / "1.png")
    put(tmp_path / "train" / "preview.png")
    listed_images = {i.path: (i.label, i.split, i.problem) for i in source_of(tmp_path).list_images()}
    assert listed_images == {
        "train/cat/1.png": ("cat", "train", None),
        "val/cat/1.png": ("cat", "eval", None),
        "train/preview.png": ("", "train", "lies outside of the class folders"),
    }


def test_classes_can_hold_the_same_folders(tmp_path):
    for name in ("cat", "dog", "Test"):
        put(tmp_path / name / "2023" / "1.png")
        put(tmp_path / name / "2024" / "1.png")
    assert set(listed(tmp_path).values()) == {("cat", None), ("dog", None), ("Test", None)}


def test_names_of_two_machines_are_one_class(tmp_path):
    put(tmp_path / "train" / "caf\u00e9" / "1.png")
    put(tmp_path / "test" / "cafe\u0301" / "2.png")
    assert {label for label, _ in listed(tmp_path).values()} == {"caf\u00e9"}


def test_files_that_cannot_be_used_say_why(tmp_path):
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "stray.jpg")
    os.symlink(tmp_path / "nowhere", tmp_path / "cat" / "broken_link.jpg")
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    with open(os.fsencode(tmp_path) + b"/cat/\xff.jpg", "wb") as file:
        file.write(images.make_png())
    with open(tmp_path / "cat" / "huge.jpg", "wb") as file:
        file.truncate(2**20 + 8 * 1000 + 1)
    problems = {i.path: i.problem for i in source_of(tmp_path, max_pixels=1000).list_images() if i.problem}
    assert problems.keys() == {"stray.jpg", "cat/broken_link.jpg", "cat/pipe.jpg", "cat/\\xff.jpg", "cat/huge.jpg"}
    assert "outside of the class folders" in problems["stray.jpg"]
    assert "broken link" in problems["cat/broken_link.jpg"]
    assert "pipe" in problems["cat/pipe.jpg"]
    assert "not UTF-8" in problems["cat/\\xff.jpg"]
    assert "1,056,577 bytes, more than 1,000 pixels" in problems["cat/huge.jpg"]


def test_a_link_to_a_folder_above_ends(tmp_path):
    put(tmp_path / "cat" / "1.png")
    os.symlink(tmp_path, tmp_path / "cat" / "loop")
    assert "cat/1.png" in listed(tmp_path)


def test_reads_bytes_labels_and_splits(tmp_path):
    images.make_image_tree(tmp_path / "train", ["cat", "dog"], per_class=2)
    images.make_image_tree(tmp_path / "test", ["cat", "dog"], per_class=1, seed=1)

    def check(read):
        assert {(i.name, i.label, i.split) for i in read} == {
            ("train/cat/0000.jpg", "cat", "train"),
            ("train/cat/0001.png", "cat", "train"),
            ("train/dog/0000.jpg", "dog", "train"),
            ("train/dog/0001.png", "dog", "train"),
            ("test/cat/0000.jpg", "cat", "test"),
            ("test/dog/0000.jpg", "dog", "test"),
        }
        assert all(i.encoded == (tmp_path / i.name).read_bytes() and i.problem is None for i in read)

    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        assert_that(pipeline | source_of(tmp_path).read(), check)


def test_order_mixes_the_classes_and_is_always_the_same(tmp_path):
    images.make_image_tree(tmp_path, ["cat", "dog"], per_class=20, size=4)
    order = [image.path for image in source_of(tmp_path).list_images()]
    assert order == [image.path for image in source_of(tmp_path).list_images()]
    assert {path[:3] for path in order[:10]} == {"cat", "dog"}


class TestFingerprint:
    @pytest.fixture
    def root(self, tmp_path):
        return images.make_image_tree(tmp_path / "images", ["cat", "dog"], per_class=3, size=4)

    def test_is_the_same_for_the_same_files(self, root):
        assert source_of(root).fingerprint() == source_of(root).fingerprint()

    def test_sees_an_image_moved_to_another_class(self, root):
        """TFX's own fingerprint (count, bytes, summed times) does not."""
        before = source_of(root).fingerprint()
        os.rename(root / "cat" / "0000.jpg", root / "dog" / "0009.jpg")
        assert source_of(root).fingerprint() != before

    def test_sees_two_images_swapped(self, root):
        before = source_of(root).fingerprint()
        os.rename(root / "cat" / "0000.jpg", root / "x")
        os.rename(root / "dog" / "0000.jpg", root / "cat" / "0000.jpg")
        os.rename(root / "x", root / "dog" / "0000.jpg")
        assert source_of(root).fingerprint() != before

    def test_sees_a_renamed_class(self, root):
        before = source_of(root).fingerprint()
        os.rename(root / "cat" / "0000.jpg", root / "cat" / "0000.jpeg")
        renamed = source_of(root).fingerprint()
        os.rename(root / "cat", root / "cats")
        assert len({before, renamed, source_of(root).fingerprint()}) == 3

    def test_sees_changed_bytes_of_the_same_length(self, root):
        before = source_of(root).fingerprint()
        path = root / "cat" / "0001.png"
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert source_of(root).fingerprint() != before

    def test_sees_changed_class_names(self, root, tmp_path):
        names = tmp_path / "names.txt"
        names.write_text("cat Katze\ndog Hund")
        before = source_of(root, class_names=str(names)).fingerprint()
        names.write_text("cat Kater\ndog Hund")
        assert source_of(root, class_names=str(names)).fingerprint() != before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "which does not exist"),
        ([], "0 files and no class folder"),
        (["1.png", "2.png"], "2 files and no class folder"),
        (["cat/1.png", "dog/"], "dog holds no image"),
        (["cat/1.png", "dog/notes.txt"], "dog holds no image"),
        (["train/cat/1.png", "test/cat/1.png", "test/dog/"], "test/dog holds no image"),
        (["train/cat/1.png", "val/1.png"], "val holds no class folder"),
        (
            ["Training/a/1.png", "Training/b/1.png", *(f"Testing/{name}/1.png" for name in "abc")],
            "Testing and Training in ROOT look like splits, since both hold 'a' and 'b'; name each in"
            " data.split_folders, the one to train on as train"
            " (known: train: train; eval: val, valid, validation, eval, dev; test: test), or rename them",
        ),
        (
            ["train_images/1.png", "test_images/2.png"],
            "test_images and train_images in ROOT look like splits, but do not hold the same class folders",
        ),
        (["seg_train/a/1.png", "seg_train/b/1.png", "seg_test/a/1.png", "seg_pred/1.png"], "seg_pred lies beside"),
        (
            ["Pets/cat/1.png", "Pets/dog/1.png"],
            "Pets is the only class folder, and Pets holds 2 folders (cat, dog); give ROOT/Pets",
        ),
        (["a/b/train/cat/1.png", "a/b/test/cat/1.png"], "and a/b holds 2 folders (test, train); give ROOT/a/b"),
        (
            [f"{split}/images/{name}/1.png" for split in ("train", "test") for name in ("cat", "dog")],
            "test/images is the only class folder, and test/images holds 2 folders (cat, dog); move those up",
        ),
        (["valid/a/1.png", "valid/b/1.png", "test/a/1.png", "test/b/1.png"], "test and valid in ROOT look like splits"),
        (["train/cat/1.png", "vall/cat/1.png"], "vall lies beside a folder of train images and names no split"),
    ],
)
def test_other_layouts_are_refused(tmp_path, files, message):
    root = tmp_path / "images"
    for file in files or []:
        if file.endswith("/"):
            (root / file).mkdir(parents=True)
        else:
            put(root / file)
    if files == []:
        root.mkdir()
    for method in ("fingerprint", "prepare"):
        with pytest.raises(UserError, match=re.escape(message.replace("ROOT", str(root)))):
            getattr(source_of(root), method)()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    put(tmp_path / "a.png")
    with pytest.raises(UserError, match="which is a file"):
        source_of(tmp_path / "a.png").fingerprint()


def test_names_of_folders_are_found_in_either_form(tmp_path):
    put(tmp_path / "images" / "cafe\u0301 bar" / "1.png")
    (tmp_path / "names.txt").write_text('"caf\u00e9 bar" Cafe\u0301\n')
    labels = {label for label, _ in listed(tmp_path / "images", class_names=str(tmp_path / "names.txt")).values()}
    assert labels == {"Caf\u00e9"}


def test_a_folder_with_white_space_and_no_class_name_is_told_its_form(tmp_path):
    put(tmp_path / "images" / "wild cat" / "1.png")
    (tmp_path / "names.txt").write_text("wild cat\n")
    with pytest.raises(UserError, match="folder 'wild cat'; add one, \"wild cat\" <class name>"):
        source_of(tmp_path / "images", class_names=str(tmp_path / "names.txt")).fingerprint()


def test_a_folder_without_a_class_name_is_refused(tmp_path):
    put(tmp_path / "images" / "n02" / "1.png")
    (tmp_path / "names.txt").write_text("n01 tench")
    with pytest.raises(UserError, match="no line for the class folder 'n02'"):
        source_of(tmp_path / "images", class_names=str(tmp_path / "names.txt")).fingerprint()
