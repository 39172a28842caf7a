"""S3 as files and folders: what is found, read, written and removed, and what every fault says in one line."""

import io
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from data import gfile
from data.amazon_s3 import client, objects, reading
from data.errors import UserError
from data.files import list_files, list_tree, read_bytes, remove_path, stat_file
from data.json_files import find_json, write_json
from data.spans import find_spans
from tests.conftest import put_objects
from tests.faulty_s3 import answers, begins_with_an_empty_page, breaks_off, hangs

ODD_KEYS = ("a b+c.png", "100%.png", "50%20.png", "é/ü.png", "katt/🐈.png", "q?x=1&y#z.png", "s*[1].png")
ROOT = Path(__file__).parent.parent


def put(bucket: Any, **contents: bytes) -> None:
    put_objects(bucket, contents)


def put_all(bucket: Any, keys: Any) -> None:
    put_objects(bucket, dict.fromkeys(keys, b"x"))


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_of_any_characters_is_found_read_and_removed(bucket: Any, key: str) -> None:
    path = f"s3://pets/in/{key}"
    gfile.write_bytes(path, b"cat")
    assert gfile.exists(path)
    assert read_bytes(path) == b"cat"
    assert [file.path for file in list_tree("s3://pets/in").files] == [key]
    assert stat_file(path).size == 3
    gfile.copy(path, f"s3://pets/out/{key}")
    assert [obj.key for obj in bucket.objects.filter(Prefix="out/")] == [f"out/{key}"]
    gfile.rmtree("s3://pets/in")
    assert not gfile.exists(path)


def test_files_and_folders_are_told_apart(bucket: Any) -> None:
    put_all(bucket, ["a/cat/1.png", "a/cat.png", "a/empty/", "ab/dog.png", "a/.hidden/x.png", "a/cat!.png", "a//y.png"])
    assert [gfile.isdir(f"s3://pets/{name}") for name in ("a", "a/", "a/cat", "a/empty", "")] == [True] * 5
    assert [gfile.isdir(f"s3://pets/{name}") for name in ("a/c", "a/cat.png", "none")] == [False] * 3
    assert gfile.exists("s3://pets/a/cat.png")
    assert not gfile.exists("s3://pets/a/ca")
    assert sorted(gfile.listdir("s3://pets/a")) == [".hidden/", "cat!.png", "cat.png", "cat/", "empty/"]
    assert sorted(gfile.list_folders("s3://pets")) == ["a", "ab"]
    tree = list_tree("s3://pets/a/")
    assert [file.path for file in tree.files] == ["cat!.png", "cat.png", "cat/1.png"]
    assert (tree.folders, tree.ignored) == (("cat",), (".hidden", "/y.png"))
    assert gfile.stat("s3://pets/a/cat").is_directory
    for missing in ("s3://pets/none", "s3://pets/a/ca"):
        for look in (gfile.stat, gfile.listdir, read_bytes, gfile.open_binary):
            with pytest.raises(tf.errors.NotFoundError):
                look(missing)
    with pytest.raises(UserError, match=r"^data\.path is s3://pets/none, which does not exist"):
        list_tree("s3://pets/none")
    assert list_files(["s3://pets/none", "s3://pets/ab"]).keys() == {"s3://pets/ab/dog.png"}


def test_a_listing_has_more_than_one_page(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # Of a page; Amazon's has 1,000.
    monkeypatch.setattr(objects, "_DELETED_AT_ONCE", 3)
    keys = [f"many/{number}.png" for number in range(8)]
    put_all(bucket, [*keys, *(f"many/{number}/x" for number in range(5))])
    assert bucket.meta.client.list_objects_v2(Bucket="pets")["IsTruncated"]
    assert [f"many/{file.path}" for file in list_tree("s3://pets/many").files if "/" not in file.path] == keys
    assert len(list_tree("s3://pets/many").files) == len(gfile.listdir("s3://pets/many")) == 13
    assert gfile.glob("s3://pets/many/*.png") == [f"s3://pets/{key}" for key in keys]
    remove_path("s3://pets/many")
    assert not list(bucket.objects.all())


def test_patterns_match_as_in_folders_here(bucket: Any, tmp_path: Path) -> None:
    names = ["m/1/saved_model.pb", "m/1/variables/x", "m/22/saved_model.pb", "run1.rec", "run10.rec", "run/2.rec"]
    put_all(bucket, names)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for pattern in ("m/*/saved_model.pb", "m/*", "run?.rec", "run*.rec", "r*/*.rec", "run[0-9].rec", "run1.rec", "no*"):
        found = [path.removeprefix(f"{tmp_path}/") for path in gfile.glob(f"{tmp_path}/{pattern}")]
        assert gfile.glob(f"s3://pets/{pattern}") == [f"s3://pets/{name}" for name in sorted(found)], pattern
        files = gfile.glob_files(f"{tmp_path}/{pattern}")
        assert [path for path, *_ in gfile.glob_files(f"s3://pets/{pattern}")] == [
            path.replace(str(tmp_path), "s3://pets") for path, *_ in files
        ]


def test_spans_are_found(bucket: Any) -> None:
    put_all(bucket, ["day-1/images/x", "day-20/images/x", "day-3/images/x", "day-99/other/x"])
    spans = find_spans("s3://pets/day-{SPAN}/images", 2)
    assert [(span.number, span.path) for span in spans] == [
        (3, "s3://pets/day-3/images"),
        (20, "s3://pets/day-20/images"),
    ]
    with pytest.raises(
        UserError, match=r"^data\.path is s3://pets/week-{SPAN}, and s3://pets/ holds nothing of that name"
    ):
        find_spans("s3://pets/week-{SPAN}")


def test_other_content_of_the_same_size_and_second_has_another_time(bucket: Any) -> None:
    found = []
    for content in (b"one", b"two", b"one"):
        put(bucket, x=content)
        found.append(stat_file("s3://pets/x").mtime_ns % 10**9)
        (listed,) = list_tree("s3://pets").files
        assert listed.mtime_ns == stat_file("s3://pets/x").mtime_ns
    assert found[0] == found[2] != found[1]


def test_a_file_is_read_in_pieces_and_whole(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(10_000)
    put(bucket, x=content, empty=b"")
    monkeypatch.setattr(reading, "_PIECE_BYTES", 1000)
    with gfile.open_binary("s3://pets/x") as file:
        assert file.read(10) == content[:10]
        assert file.seek(-5, io.SEEK_END) == 9_995
        assert file.read() == content[-5:]
        assert file.read() == b""
        file.seek(4_321)
        assert file.read(3_000) == content[4_321:7_321]
        file.seek(0)
        assert file.read() == content
    with gfile.open_binary("s3://pets/empty") as file:
        assert file.read() == b""
    assert read_bytes("s3://pets/empty") == b""


def test_a_file_that_is_replaced_while_it_is_read_is_no_mixture(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, x=b"a" * 100)
    monkeypatch.setattr(reading, "_PIECE_BYTES", 10)
    with gfile.open_binary("s3://pets/x") as file:
        assert file.read(10) == b"a" * 10
        put(bucket, x=b"b" * 100)
        with pytest.raises(UserError, match="s3://pets/x: it changed while it was read"):
            file.read(10)


def test_json_is_written_whole_and_found(bucket: Any) -> None:
    write_json("s3://pets/a/b.json", {"x": [1]})
    assert [obj.key for obj in bucket.objects.all()] == ["a/b.json"]
    assert find_json("s3://pets/a/b.json") == {"x": [1]}
    assert find_json("s3://pets/a/c.json") is None


def test_copies_go_all_ways_and_a_folder_is_a_local_one_for_a_while(bucket: Any, tmp_path: Path) -> None:
    large = os.urandom(9 << 20)  # in parts
    (tmp_path / "x").write_bytes(large)
    gfile.copy(str(tmp_path / "x"), "s3://pets/m/sub/x")
    gfile.copy("s3://pets/m/sub/x", "s3://pets/m/y")
    gfile.copy("s3://pets/m/y", f"ram://{tmp_path.name}/y")
    gfile.copy(f"ram://{tmp_path.name}/y", "s3://pets/m/z")
    with gfile.local_copy("s3://pets/m") as folder:
        assert {
            str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
        } == dict.fromkeys(("sub/x", "y", "z"), large)
    assert not os.path.exists(folder)
    with gfile.local_copy("s3://pets/m/y") as file:
        assert Path(file).read_bytes() == large
    with pytest.raises(tf.errors.NotFoundError), gfile.local_copy("s3://pets/none"):
        pass
    put_all(bucket, ["evil/../../x"])
    with pytest.raises(UserError, match="leads out of its folder; rename it"), gfile.local_copy("s3://pets/evil"):
        pass


def test_threads_share_one_client_and_a_forked_process_has_its_own(bucket: Any) -> None:
    put(bucket, x=b"x")
    assert read_bytes("s3://pets/x") == b"x"
    barrier, found = threading.Barrier(4), []

    def look() -> None:
        barrier.wait()
        found.append(client.get_client())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    with pytest.raises(Exception, match=r"pickle|Can't"):
        pickle.dumps(found[0])  # So that no step of Beam can hold one.


def test_paths_here_need_neither_tensorflow_nor_amazons_client(tmp_path: Path) -> None:
    code = (
        "import sys; from data import json_files, spans; json_files.write_json(sys.argv[1], spans.newest_path('x'))\n"
        "print([name for name in ('tensorflow', 'boto3', 'data.amazon_s3') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Faults.


def refusal(act: Callable[[], Any]) -> str:
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        act()
    assert time.monotonic() - started < 30
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (
            403,
            "AccessDenied",
            "access is denied (AccessDenied); reading takes s3:ListBucket and s3:GetObject, writing",
        ),
        (403, "InvalidAccessKeyId", "the credentials are refused (InvalidAccessKeyId); renew them"),
        (400, "ExpiredToken", "the credentials are refused (ExpiredToken); renew them"),
        (403, "InvalidObjectState", "it is archived (InvalidObjectState); restore it"),
        (403, "KMS.DisabledException", "access is denied (KMS.DisabledException)"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong (RequestTimeTooSkewed); set it"),
        (400, "MetadataTooLarge", "S3 answers MetadataTooLarge: told by the test"),
    ],
)
def test_a_refusal_is_one_line_at_once(faulty: Any, status: int, code: str, told: str) -> None:
    server = faulty(answers(status, code))
    assert refusal(lambda: read_bytes("s3://pets/cat 1.png")).startswith(f"s3://pets/cat 1.png: {told}")
    assert len(server.seen) == 1


def test_what_throttles_is_asked_again_and_told_when_it_lasts(
    faulty: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.time.sleep", lambda seconds: None, raising=False)
    put(bucket, x=b"x")
    server = faulty(answers(503, "SlowDown"), times=2)
    assert read_bytes("s3://pets/x") == b"x"
    assert len(server.seen) == 3
    server = faulty(answers(503, "SlowDown"))
    told = refusal(lambda: read_bytes("s3://pets/x"))
    assert told == "s3://pets/x: S3 is too busy, or ill (SlowDown, 4 attempts); run again later"
    assert len(server.seen) == 4


def test_an_answer_that_breaks_off_is_asked_for_again(faulty: Any, bucket: Any) -> None:
    put(bucket, x=b"x" * 1000)
    server = faulty(breaks_off, times=2, text="GET /pets/x")
    assert read_bytes("s3://pets/x") == b"x" * 1000
    assert len(server.seen) == 3
    faulty(breaks_off, text="GET /pets/x")
    assert refusal(lambda: read_bytes("s3://pets/x")).startswith("s3://pets/x: S3 does not answer (")


def test_a_server_that_hangs_is_told(faulty: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_READ_SECONDS", 0.2)
    faulty(hangs)
    told = refusal(lambda: gfile.exists("s3://pets/x"))
    assert told.startswith("s3://pets/x: S3 does not answer (Read timeout on endpoint URL: ")
    assert told.endswith("); check the network, and AWS_ENDPOINT_URL where that is set")


def test_without_network_credentials_or_bucket_it_is_one_line(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(lambda: list_tree("s3://nobodys/x")) == (
        "s3://nobodys/x: there is no such bucket (NoSuchBucket); check its name, and AWS_ENDPOINT_URL where that is set"
    )
    assert refusal(lambda: gfile.exists("s3://Not_A_Bucket!/x")).startswith("s3://Not_A_Bucket!/x: ")
    assert refusal(lambda: gfile.exists("s3:///x")) == "s3:///x: names no bucket; the form is s3://BUCKET/FOLDER"
    for name, value, told in (
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "S3 does not answer (Could not connect to the endpoint URL: "),
        ("AWS_ENDPOINT_URL", "nonsense", "Invalid endpoint: nonsense; check the path, the AWS_* variables and ~/.aws"),
        (
            "AWS_PROFILE",
            "nobody",
            "The config profile (nobody) could not be found; check the path, the AWS_* variables",
        ),
        ("AWS_ACCESS_KEY_ID", None, "Unable to locate credentials; aws configure, aws sso login or AWS_PROFILE gives"),
    ):
        with monkeypatch.context() as changed:
            changed.delenv(name, raising=False) if value is None else changed.setenv(name, value)
            changed.delenv("AWS_SECRET_ACCESS_KEY", raising=False) if value is None else None
            client._make_client.cache_clear()
            assert refusal(lambda: read_bytes("s3://pets/x")).startswith(f"s3://pets/x: {told}")
    client._make_client.cache_clear()


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    for act in (gfile.exists, gfile.listdir, read_bytes, stat_file, lambda path: gfile.copy(__file__, path)):
        assert refusal(lambda act=act: act("s3://pets/x")) == (
            "s3://pets/x: s3:// is read with boto3, which is not installed; install the extra aws of this project"
        )


def test_an_empty_page_is_not_the_end_of_a_list(bucket: Any, faulty: Any) -> None:
    put(bucket, x=b"x")
    faulty(begins_with_an_empty_page, "GET /pets?list-type=2")
    assert gfile.exists("s3://pets/x")
    assert gfile.isdir("s3://pets")
    assert gfile.listdir("s3://pets") == ["x"]


def test_a_removal_that_is_denied_is_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put_all(bucket, ["m/1"])
    denied = {"Errors": [{"Key": "m/1", "Code": "AccessDenied"}]}
    monkeypatch.setattr(objects.get_client(), "delete_objects", lambda **_: denied)
    assert refusal(lambda: gfile.rmtree("s3://pets/m")) == "s3://pets/m/1: cannot be removed (AccessDenied)"
