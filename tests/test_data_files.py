"""Listing and reading files, the same here and in a bucket."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from data.errors import UserError
from data.files import _list_local, _list_remote, list_tree, read_bytes, read_lines, remove_path, stat_file
from data.json_files import find_json, read_json, write_json


@pytest.fixture
def root(tmp_path):
    for path in (
        "a/1.png",
        "a/b/été 2.PNG",
        "c/3.png",
        "4.png",
        ".git/5.png",
        "a/.6.png",
        "__MACOSX/a/1.png",
        "c/@eaDir/3.png/T.jpg",
        "$RECYCLE.BIN/S-1/$R1.png",
        "lost+found/1",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    return tmp_path


def test_lists_files_and_folders_sorted(root):
    tree = list_tree(str(root))
    assert [file.path for file in tree.files] == ["4.png", "a/1.png", "a/b/été 2.PNG", "c/3.png"]
    assert tree.folders == ("a", "a/b", "c")
    assert tree.ignored == ("$RECYCLE.BIN", ".git", "__MACOSX", "a/.6.png", "c/@eaDir", "lost+found")
    for file in tree.files:
        status = os.stat(root / file.path)
        assert (file.size, file.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_a_link_to_itself_is_a_file_that_cannot_be_opened(root):
    os.symlink("self", root / "a" / "self")
    assert [file.path for file in list_tree(str(root)).files if file.size < 0] == ["a/self"]


def test_a_bucket_is_listed_alike(root):
    """By Beam's file systems, of which the one for this machine stands in for that of a bucket."""
    here, there = _list_local(str(root)), _list_remote(str(root) + "/")
    assert sorted((f.path, f.size) for f in there[0]) == sorted((f.path, f.size) for f in here[0])
    assert sorted(there[1]) == sorted(here[1])
    assert sorted(there[2]) == sorted(here[2])


def test_what_cannot_be_listed_is_the_users_to_mend(root):
    with pytest.raises(UserError, match="cannot be listed"):
        list_tree("nosuchscheme://bucket/images")
    with pytest.raises(UserError, match="does not exist"):
        list_tree(str(root / "nowhere"))


def test_reads(root):
    assert read_bytes(str(root / "4.png")) == b"4.png"
    (root / "lines.txt").write_text("\ufeffone \n\n two\u2028too\n \n\n", encoding="utf-8")
    assert read_lines(str(root / "lines.txt")) == ["one", "", "two\u2028too"]
    assert stat_file(str(root / "4.png")).size == 5
    with pytest.raises(UserError, match="which is a folder"):
        stat_file(str(root / "a"))


def test_a_path_is_removed_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"1")
    for name in ("folder", "file", "nothing"):
        remove_path(str(tmp_path / name))
    assert not list(tmp_path.iterdir())


def test_json_is_whole_or_the_old_one_and_none_where_there_is_none(tmp_path):
    path = str(tmp_path / "new" / "facts.json")
    assert find_json(path) is None
    with pytest.raises(tf.errors.NotFoundError):
        read_json(path)
    write_json(path, {"label": "été\u2028図", "n": [1, None]})
    with pytest.raises(TypeError):
        write_json(path, {"n": object()})
    assert read_json(path) == find_json(path) == {"label": "été\u2028図", "n": [1, None]}
    assert "図" in Path(path).read_text(encoding="utf-8")


def test_json_of_this_machine_is_read_without_waiting_for_tensorflow(tmp_path):
    (tmp_path / "facts.json").write_text('{"n": 1}')
    code = f"import sys\nfrom data.json_files import read_json\nprint(read_json({str(tmp_path / 'facts.json')!r}))\n"
    code += "print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'n': 1}\nFalse\n"
