"""Tables of images: every dialect of them, where their files lie, and what does not fit together."""

import hashlib
import json
import pickle
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.detect import settings_for_path
from data.errors import UserError
from data.files import _list_remote
from data.settings import DataSettings
from data.sources import make_source
from data.sources.relabelled import relabel
from data.tables.columns import KNOWN_NAMES
from data.tables.places import find_files
from pipeline.vertex.sources import ROOT
from tests import images, table_files


def source_of(path, **settings):
    return make_source(DataSettings(source="table", path=str(path), **settings))


def read_all(path, **settings):
    """Returns all images, as the workers read them, from a source that was sent to them."""
    source = pickle.loads(pickle.dumps(source_of(path, **settings)))
    return [image for reference in source.list_references() for image in source._read(source._root, reference)]


def problems(path, **settings):
    return {image.name: image.problem for image in read_all(path, **settings) if image.problem}


def says(image):
    sha256 = hashlib.sha256(image.encoded).hexdigest()
    return image.name, sha256, image.label, image.split, image.group, image.weight, image.problem


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables") / "pets"
    return root, table_files.make_pictures(root)


@pytest.mark.parametrize("write", table_files.DIALECTS)
def test_every_dialect_says_the_same(pets, write):
    root, pictures = pets
    path = write(root, pictures)
    assert settings_for_path(str(path)) == {"source": "table", "path": str(path)}
    settings = table_files.SETTINGS.get(write, lambda _: {})(root)
    expected = {
        (
            one.path,
            hashlib.sha256((root / one.path).read_bytes()).hexdigest(),
            one.label,
            {"val": "eval"}.get(one.split, one.split),
            None if write in table_files.WITHOUT_GROUPS else one.group,
            1.0 if write in table_files.WITHOUT_GROUPS else one.weight,
            None,
        )
        for one in pictures
    }
    assert set(map(says, read_all(path, **settings))) == expected


@pytest.fixture
def folder(tmp_path):
    """A folder `photos` of five small PNGs, all different."""
    root = tmp_path / "photos"
    for seed, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/3.png", "dog/caf\u00e9 100%.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(images.encode(images.picture(seed=seed), "PNG"))
    return root


def table_of(folder, text, name="table.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path, **settings):
    with pytest.raises(UserError) as caught:
        source_of(path, **settings).fingerprint()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "table.csv is empty; its first line names the columns"),
        ("file,label\n", "which holds no row with a label; give a table of images"),
        ("[]", "table.csv is empty; it holds a record for each image"),
        ("file,diagnosis\ncat/1.png,x\n", "has no column that is known as the label (label, labels, label_name, class"),
        ("a,label\ncat/1.png,x\n", "but the columns 'a', 'label'; name it, --set data.columns.path=NAME"),
        (
            "file,label,Class\ncat/1.png,x,y\n",
            "table.csv has 'label' and 'Class', each of which may be the label; name one: --set data.columns"
            ".label=label",
        ),
        ("file,label,label\ncat/1.png,x,y\n", "table.csv has 'label' and 'label', each of which may be the label"),
        (
            "file,label,patient,camera\ncat/1.png,x,y,z\n",
            "name one: --set data.columns.group=patient, or data.columns.group='\"\"' for none",
        ),
        ('file,label\ncat/1.png,"x\ncat/2.png,y\n', "in what begins on line 2; mend its quotes"),
        (b"file,label\ncat/1.png,\xe9t\xe9\n", "is not UTF-8 text on line 2; save it as UTF-8"),
        ("file,label\ncat/1.png,x\n".encode("utf-16-le"), "is no text, or not in UTF-8; save it as UTF-8"),
        ('{"file": "cat/1.png", "label": "x"}\n{"file": ', "table.csv, line 2, is no JSON ("),
        ('[{"file": "cat/1.png"}, 3]', "table.csv, row 2, holds int, not a record such as {...}"),
        ('{\n "images": []\n}', "line 1, is no JSON"),
        (
            "file,label\ncat/1.png,x\nhttps://b/p/2.png,y\n",
            "line 3 of table.csv names https://b/p/2.png, and https:// is not read; copy the images to a folder, or to"
            " gs:// or s3://, and say where: --set 'data.uri_map={\"https://b\": FOLDER}'",
        ),
        ("file,label\nhttps://h/2.png,y\n", "https:// is not read"),
        ("PAR1", "has no column"),
    ],
)
def test_what_is_no_table_of_images_is_refused(folder, text, expected):
    assert expected in refusal(table_of(folder, text))


def test_the_known_names_are_those_of_the_page():
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and line.count("` `")]
    named = {cells[0].removeprefix("| "): tuple(re.findall("`([^`]+)`", cells[1])) for cells in rows}
    assert {meaning: named[meaning] for meaning in KNOWN_NAMES} == KNOWN_NAMES


def test_columns_can_be_named(folder):
    path = table_of(folder, "id,file,label,class,weight,set\n1,cat/1.png,x,y,20,shelf\n")
    columns = {"path": "file", "label": "class", "weight": "", "split": "", "group": "id"}
    (image,) = read_all(path, columns=columns, unlabelled="ignore")
    assert (image.name, image.label, image.weight, image.group, image.split) == ("cat/1.png", "y", 1.0, "1", None)
    found = refusal(path, columns={"label": "klass"})
    assert found.startswith("data.columns.label is 'klass', but table.csv has the columns 'id', 'file', 'label'")


def test_it_is_told_which_column_means_what(folder):
    source = source_of(table_of(folder, "Image,dx,patient_id\ncat/1.png,x,7\n"), columns={"label": "dx"})
    source.prepare()
    assert source.notes() == ["table.csv: path from Image, label from dx, group from patient_id"]


def test_cells_of_every_make(folder):
    text = (
        "sep=;\r\n\r\nFile; LABEL ;split;weight\r\n"
        'cat/1.png;"two\nlines; and ""quotes""";UNASSIGNED;\r\n'
        "  cat/2.png ; 7 ;Validation;0.25\r\n"
        "dog/1.png;cafe\u0301\r\n"
        "dog/3.png;x;training;2;more\r\n"
    )
    found = {image.name: image for image in read_all(table_of(folder, text), unlabelled="ignore")}
    values = [(found[name].label, found[name].split, found[name].weight) for name in sorted(found)]
    assert values == [
        ('two\nlines; and "quotes"', None, 1.0),
        ("7", "eval", 0.25),
        ("caf\u00e9", None, 1.0),
        ("x", "train", 2.0),
    ]
    assert found["dog/3.png"].problem == "line 8 of table.csv has 5 cells, more than the 4 columns"


def test_values_of_json_become_text(folder):
    records = [
        {"file": "cat/1.png", "label": 3, "group": 1.0},
        {"file": "cat/2.png", "label": 3.0, "group": None},
        {"file": "dog/1.png", "label": True, "weight": "0.5"},
        {"file": "dog/3.png", "label": ["x"], "weight": 2},
    ]
    table_files.write_lines(folder / "t.jsonl", records)
    found = {image.name: image for image in read_all(folder / "t.jsonl", unlabelled="ignore")}
    values = [(found[name].label, found[name].group, found[name].weight) for name in sorted(found)]
    assert values == [("3", "1", 1.0), ("3", None, 1.0), ("true", None, 0.5), ("x", None, 2.0)]


def test_rows_that_cannot_be_used_say_why(folder):
    records = [
        {"file": "cat/1.png", "label": ["a", "b"]},
        {"file": "cat/2.png", "label": "a", "split": "shelf"},
        {"file": "dog/1.png", "label": "a", "weight": "heavy"},
        {"file": "dog/3.png", "label": " "},
        {"file": "dog/4.png", "label": "a"},
        {"file": "", "label": "a"},
        {"file": "dog/caf\u00e9 100%.png", "label": "a", "weight": 0},
    ]
    table_files.write_lines(folder / "t.jsonl", records)
    splits = "train, val, valid, validation, eval, dev, test, unassigned"
    assert problems(folder / "t.jsonl") == {
        "cat/1.png": "line 1 of t.jsonl has several labels: a, b",
        "cat/2.png": f"line 2 of t.jsonl has the split 'shelf', which is none of data.split_folders ({splits})",
        "dog/1.png": "line 3 of t.jsonl has the weight 'heavy', which is no finite number above 0",
        "dog/3.png": "line 4 of t.jsonl gives no label; data.unlabelled=ignore leaves such images out",
        "dog/4.png": "no such file (line 5 of t.jsonl)",
        "line 6 of t.jsonl": "names no image (line 6 of t.jsonl)",
        "dog/caf\u00e9 100%.png": "line 7 of t.jsonl has the weight 0, which is no finite number above 0",
    }


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("./cat/../cat//1.png", "cat/1.png"),
        ("cat\\1.png", "cat/1.png"),
        ("{folder}/cat/1.png", "cat/1.png"),
        ("file://{folder}/cat/1.png", "cat/1.png"),
        ("dog/caf%C3%A9%20100%25.png", "dog/caf\u00e9 100%.png"),
        ("dog/caf\u00e9 100%.png", "dog/caf\u00e9 100%.png"),
        ("dog/cafe\u0301 100%.png", "dog/caf\u00e9 100%.png"),
        ("caf\u00e9 100%", "dog/caf\u00e9 100%.png"),
        ("3", "dog/3.png"),
        ("3.png", "dog/3.png"),
        ("dog/3", "dog/3.png"),
        ("/home/somebody/photos/dog/3.png", "dog/3.png"),
        ("D:\\photos\\dog\\3.png", "dog/3.png"),
        ("/data/local-files/?d=photos/dog/3.png", "dog/3.png"),
        ("/data/local-files/?d=dog%2F3.png", "dog/3.png"),
        ("/data/upload/dog/3.png", "dog/3.png"),
        ("/data/upload/7/0123abcd-3.png", "dog/3.png"),
        ("../photos/cat/2.png", "cat/2.png"),
        ("https://host/x/cat/2.png", "cat/2.png"),
        ("https://host/xy/cat/2.png", None),
        ("../else.png", "{folder}/../else.png"),
        ("1", None),
        ("1.png", None),
        ("dog/2.png", None),
        ("photos/cat/2.png", None),
        ("/home/somebody/pictures/cat/2.png", None),
    ],
)
def test_where_a_path_leads(folder, given, name):
    (folder.parent / "else.png").write_bytes(images.make_png())
    table_files.write_lines(folder / "t.jsonl", [{"file": given.format(folder=folder), "label": "a"}])
    uri_map = {"https://host/x": str(folder), "https://host/xy/": "/nowhere"}
    (image,) = read_all(folder / "t.jsonl", unlabelled="ignore", uri_map=uri_map)
    if name is None:
        assert "no such file" in image.problem or "2 files are called so" in image.problem
    else:
        assert image.problem is None
        assert image.name == str((folder / name.format(folder=folder)).resolve()).removeprefix(f"{folder}/")


def test_a_path_that_several_files_have_is_not_guessed(folder):
    path = table_of(folder, "file,label\n1,a\n3,b\n")
    assert problems(path, unlabelled="ignore") == {
        "1": "2 files are called so, such as cat/1.png and dog/1.png (line 2 of table.csv)"
    }


def test_a_file_on_two_rows_counts_once_if_they_agree(folder):
    rows = "cat/1.png,a,1\n./cat/1.png,a,1\ncat/2.png,a,1\ncat/2.png,b,1\ndog/1.png,b,1\ndog/1.png,b,2\n"
    path = table_of(folder, "file,label,group\n" + rows)
    assert len(read_all(path, unlabelled="ignore")) == 3
    assert problems(path, unlabelled="ignore") == {
        "cat/2.png": "line 4 of table.csv gives the label 'a', and line 5 of table.csv 'b'",
        "dog/1.png": "line 6 of table.csv gives the group '1', and line 7 of table.csv '2'",
    }


def test_rows_agree_in_what_data_labels_makes_of_them(folder):
    path = table_of(
        folder, "file,label\ncat/1.png,kirik\ncat/1.png,Fracture\ncat/2.png,Skip\ncat/2.png,b\ndog/1.png,Skip\n"
    )
    labels = {"kirik": "Fracture", "Skip": None}
    source = make_source(DataSettings(source="table", path=str(path), labels=labels, unlabelled="ignore"))
    inner = [image for one in source._source.list_references() for image in source._source._read(str(folder), one)]
    found = {(image.name, image.label, image.left_out) for image in (relabel(image, labels) for image in inner)}
    assert found == {
        ("cat/1.png", "Fracture", False),
        ("cat/2.png", "b", False),
        ("dog/1.png", "Skip", True),
    }


def test_files_without_a_row_are_named_or_ignored(folder):
    (folder / "bird").mkdir()
    for name in ("bird/1.png", "cat/notes.txt", "cat/.3.png"):
        (folder / name).write_bytes(b"x")
    path = table_of(folder, "file,label\ncat/1.png,a\n")
    reason = "has no row in table.csv; data.unlabelled=ignore leaves such images out"
    assert problems(path) == {"cat/2.png": reason}
    assert source_of(path).prepare() == []
    table_of(folder, "file,label\ncat/1.png,a\ndog/1.png,\n")
    assert source_of(path, unlabelled="ignore").prepare() == [
        *("cat/2.png", "dog/1.png", "dog/3.png", "dog/café 100%.png")
    ]
    assert len(read_all(path, unlabelled="ignore")) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: table_of(folder, "file,label\ncat/1.png,b\ncat/2.png,b\n"),
        lambda folder: (folder / "cat" / "2.png").write_bytes(b"other"),
        lambda folder: (folder / "cat" / "3.png").write_bytes(b"new"),
        lambda folder: (folder / "cat" / "2.png").unlink(),
    ],
)
def test_the_fingerprint_sees_a_change(folder, change):
    path = table_of(folder, "file,label\ncat/1.png,a\ncat/2.png,b\n")
    before = source_of(path).fingerprint()
    assert source_of(path).fingerprint() == before
    change(folder)
    assert source_of(path).fingerprint() != before


def test_a_table_that_is_gone_or_too_many_is_refused(folder):
    assert "which cannot be read" in refusal(folder / "none.csv")
    assert "where no table was found" in refusal(folder)
    for place in ("s3a://bucket/t.csv", "https://host/t.csv", "hf://datasets/x"):
        with pytest.raises(UserError, match=f"^--data is {place}, and .*:// is not read"):
            settings_for_path(place)


# Hugging Face's folders.


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata_is_a_table(folder, name):
    if name.endswith("csv"):
        table_of(folder, "file_name,label\ncat/1.png,a\n", name)
    else:
        table_files.write_lines(folder / name, [{"file_name": "cat/1.png", "label": "a"}])
    table_of(folder, "file_name,label\ncat/1.png,b\n", "other.csv")
    assert settings_for_path(str(folder))["source"] == "table"
    (image,) = read_all(folder, unlabelled="ignore")
    assert (image.name, image.label) == ("cat/1.png", "a")


def test_metadata_may_lie_in_the_folder_of_each_split(folder):
    (folder / "cat").rename(folder / "train")
    (folder / "dog").rename(folder / "validation")
    for split in ("train", "validation"):
        table_of(folder / split, f"file_name,label\n1.png,{split[0]}\n", "metadata.csv")
    assert settings_for_path(str(folder))["source"] == "table"
    found = {(image.name, image.label, image.split) for image in read_all(folder, unlabelled="ignore")}
    assert found == {("train/1.png", "t", "train"), ("validation/1.png", "v", "eval")}


def test_another_table_in_a_folder_is_told_and_not_used(folder):
    table_of(folder, "file,label\ncat/1.png,a\n", "labels.csv")
    table_of(folder, "text\nhello\n", "metadata.csv")
    (folder / "rows.parquet").write_bytes(b"PAR1")
    assert settings_for_path(str(folder)) == {"source": "image_folder", "path": str(folder)}
    source = make_source(DataSettings(source="image_folder", path=str(folder)))
    assert "labels.csv" in source.prepare()
    assert source.notes()[0] == (
        f"labels.csv is not used: the folders give the labels (--data {folder}/labels.csv reads it)"
    )
    assert [note.split()[0] for note in source.notes()] == ["labels.csv", "metadata.csv", "rows.parquet"]


def test_one_class_folder_beside_a_table_is_refused_with_the_table_to_give(folder):
    table_of(folder / "cat", "file,label\n1.png,a\n", "labels.csv")
    with pytest.raises(UserError, match=r"a folder of 3 files and no folder .*; is .*/cat/labels.csv their table"):
        settings_for_path(str(folder / "cat"))
    (folder / "dog").rename(folder.parent / "dog")
    table_of(folder, "file,label\ncat/1.png,a\n", "labels.csv")
    with pytest.raises(UserError, match=re.escape(f"beside it; if that has the labels, give {folder}/labels.csv")):
        make_source(DataSettings(source="image_folder", path=str(folder))).fingerprint()


# Parquet.


def test_parquet_files_declare_splits_by_their_names(pets, tmp_path):
    root, pictures = pets
    data = tmp_path / "set" / "data"
    data.mkdir(parents=True)
    for split in ("train", "test"):
        path = table_files.hugging_face(root, [one for one in pictures if one.split == split])
        path.rename(data / f"{split}-00000-of-00001.parquet")
    for place in (data.parent, data, f"{data}/*.parquet"):
        assert settings_for_path(str(place))["source"] == "table"
        found = read_all(place, columns={"split": "", "group": "", "weight": ""})
        assert {(image.name, image.split) for image in found} == {
            (one.path, one.split) for one in pictures if one.split != "val"
        }
    table_files.hugging_face(root, pictures).rename(data / "more.parquet")
    assert "data/more.parquet lies beside tables of declared splits and names none" in refusal(data)


def test_parquet_rows_without_a_name_a_label_or_bytes(folder):
    table = pa.table(
        {
            "image": [
                {"bytes": b"abc", "path": None},
                {"bytes": None, "path": "cat/1.png"},
                {"bytes": None, "path": "cat/9.png"},
                None,
                {"bytes": b"x", "path": "y.png"},
            ],
            "label": ["a", "a", "a", "a", None],
        }
    )
    pq.write_table(table, folder / "t.parquet", row_group_size=2)
    found = [(image.name, image.encoded[:4], image.problem) for image in read_all(folder / "t.parquet")]
    assert found == [
        ("row 1 of t.parquet", b"abc", None),
        ("cat/1.png", b"\x89PNG", None),
        ("cat/9.png", b"", "cannot be read: FileNotFoundError"),
        ("row 4 of t.parquet", b"", "row 4 of t.parquet holds no image"),
        ("y.png", b"x", "row 5 of t.parquet gives no label; data.unlabelled=ignore leaves such images out"),
    ]
    assert len(read_all(folder / "t.parquet", unlabelled="ignore")) == 4


def test_parquet_that_cannot_be_read_is_told(folder, pets):
    (folder / "t.parquet").write_bytes(b"PAR1 and no more")
    assert "t.parquet cannot be read as Parquet: " in refusal(folder / "t.parquet")
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"], "label": [1]}), folder / "t.parquet")
    assert "has 'a' and 'b', each of which may be the images; name one: --set" in refusal(folder / "t.parquet")
    (image,) = read_all(folder / "t.parquet", columns={"path": "b"})
    assert image.encoded == b"y"
    content = bytearray(table_files.parquet_of_bytes(*pets).read_bytes())
    content[500:3000] = bytes(2500)
    (folder / "t.parquet").write_bytes(content)
    fatal = [image for image in read_all(folder / "t.parquet") if image.fatal]
    assert fatal
    assert "cannot be read after " in fatal[0].problem


# What services export.


def task(image, *annotations):
    return {"data": {"image": image}, "annotations": list(annotations)}


def choose(*choices, control="choice", **others):
    return {"result": [{"type": "choices", "from_name": control, "value": {"choices": list(choices)}}], **others}


def test_label_studio_tasks_that_give_no_single_label(folder):
    path = folder / "export.json"
    path.write_text(
        json.dumps(
            [
                task("cat/1.png", choose("a", "b")),
                task("cat/2.png", choose("a", was_cancelled=True)),
                task("dog/1.png", choose("b", id=7), choose("a", id=3)),
                task("dog/3.png", {"result": [{"type": "rectanglelabels", "value": {"rectanglelabels": ["a"]}}]}),
            ]
        )
    )
    found = problems(path)
    assert found["cat/1.png"] == "row 1 of export.json has several labels: a, b"
    assert "row 2 of export.json gives no label" in found["cat/2.png"]
    assert "row 4 of export.json gives no label" in found["dog/3.png"]
    assert {image.name: image.label for image in read_all(path, unlabelled="ignore")}["dog/1.png"] == "b"


def test_label_studio_s_small_exports(folder):
    path = folder / "min.json"
    several = {"choices": ["a", "b"]}
    records = [
        {"image": "/data/upload/1/0123abcd-3.png", "id": 1, "choice": "a", "annotator": 1},
        {"image": "cat/1.png", "id": 2, "choice": several, "annotator": 1},
    ]
    path.write_text(json.dumps(records))
    table_files.write_csv(
        folder / "min.csv", ("image", "choice"), [("dog/3.png", "a"), ("cat/1.png", json.dumps(several))]
    )
    for name, place in (("min.json", "row 2 of min.json"), ("min.csv", "line 3 of min.csv")):
        found = {image.name: image for image in read_all(folder / name, unlabelled="ignore")}
        assert found["dog/3.png"].label == "a"
        assert found["cat/1.png"].problem == f"{place} has several labels: a, b"


def test_label_studio_with_two_questions_needs_one_named(folder):
    both = {"result": choose("a")["result"] + choose("bad", control="quality")["result"]}
    path = folder / "export.json"
    path.write_text(json.dumps([task("cat/1.png", both)]))
    assert "'choice' and 'quality', each of which may be the label; name one" in refusal(path)
    (image,) = read_all(path, columns={"label": "quality"}, unlabelled="ignore")
    assert image.label == "bad"


def test_sagemaker_and_vertex_records_without_one_label(folder):
    table_files.write_lines(
        folder / "out.manifest",
        [
            {"source-ref": "cat/1.png", "l": 0, "l-metadata": {"class-name": "a"}},
            {"source-ref": "cat/2.png", "l-metadata": {"failure-reason": "timeout"}, "l": 0},
            {"source-ref": "dog/1.png", "l": [0, 1], "l-metadata": {"class-map": {"0": "a", "1": "b"}}},
            {"source-ref": "dog/3.png", "l": [1], "l-metadata": {"class-map": {"1": "b"}}},
        ],
    )
    found = {image.name: image for image in read_all(folder / "out.manifest")}
    assert (found["cat/1.png"].label, found["dog/3.png"].label) == ("a", "b")
    assert "gives no label" in found["cat/2.png"].problem
    assert "has several labels: a, b" in found["dog/1.png"].problem
    table_files.write_lines(folder / "built-in.manifest", [{"source-ref": "cat/1.png", "class": "3"}])
    assert read_all(folder / "built-in.manifest", unlabelled="ignore")[0].label == "3"
    several = {"classificationAnnotations": [{"displayName": "a"}, {"displayName": "b"}]}
    table_files.write_lines(folder / "v.jsonl", [{"imageGcsUri": f"gs://b/{folder}/cat/1.png", **several}])
    assert "has several labels: a, b" in next(iter(problems(folder / "v.jsonl", uri_map={"gs://b": "/"}).values()))
    (folder / "v.csv").write_text("gs://b/cat/1.png,a\nTEST,gs://b/cat/2.png,a,b\nUNASSIGNED,gs://b/dog/1.png,b\n")
    found = {image.name: image for image in read_all(folder / "v.csv", uri_map={"gs://b": str(folder)})}
    assert [found[name].split for name in ("cat/1.png", "cat/2.png", "dog/1.png")] == [None, "test", None]
    assert found["cat/2.png"].problem == "line 2 of v.csv has several labels: a, b"


def test_a_bucket_is_asked_for_few_folders(folder, monkeypatch):
    """By Beam's file system for this machine in place of the bucket's."""
    asked = []

    def list_remote(root):
        asked.append(root)
        files, *others = _list_remote(str(folder) + root.removeprefix("gs://bucket"))
        return files, *others

    monkeypatch.setattr("data.files._list_remote", list_remote)
    paths = ["cat/1.png", "gs://bucket/dog/3.png", "dog/9.png"]
    places, _ = find_files(paths, "gs://bucket", {})
    assert {path: getattr(place, "path", place) for path, place in places.items()} == {
        "cat/1.png": "gs://bucket/cat/1.png",
        "gs://bucket/dog/3.png": "gs://bucket/dog/3.png",
        "dog/9.png": "no such file",
    }
    assert sorted(asked) == ["gs://bucket", "gs://bucket/cat", "gs://bucket/dog"]  # the first for dog/9.png
    asked.clear()
    find_files([f"cat/{number}/1.png" for number in range(30)], "gs://bucket", {})
    assert asked == ["gs://bucket/cat", "gs://bucket"]
