"""One folder of images, written as a table in every dialect."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests import images

BUCKET = "gs://bucket/pets"


@dataclass(frozen=True)
class Picture:
    """What a row says of an image."""

    path: str
    label: str
    split: str | None
    group: str | None
    weight: float


def make_pictures(root: Path, per_class: int = 4) -> list[Picture]:
    """Writes `root/<split>/<class>/NNNN.jpg|png`, and returns what rows shall say of them."""
    pictures = []
    for seed, split in enumerate(("train", "val", "test")):
        images.make_image_tree(root / split, ["cat", "wild boar"], per_class=per_class, size=8, seed=seed)
        for place, path in enumerate(sorted((root / split).rglob("*.*"))):
            weight = (1.0, 0.5)[place % 2]
            pictures.append(
                Picture(path.relative_to(root).as_posix(), path.parent.name, split, f"p{seed}{place // 2}", weight)
            )
    return pictures


def write_csv(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], encoding: str = "utf-8", **options: str
) -> Path:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, **{"lineterminator": "\n", **options})
    writer.writerows([header, *rows] if header else rows)
    path.write_bytes(buffer.getvalue().encode(encoding))
    return path


def write_lines(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def plain(root: Path, pictures: Sequence[Picture]) -> Path:
    rows = [(one.path, one.label, one.split, one.group, one.weight) for one in pictures]
    return write_csv(root / "plain.csv", ("image_path", "class", "split", "patient_id", "weight"), rows)


def excel(root: Path, pictures: Sequence[Picture]) -> Path:
    """As a German or Turkish Excel for Windows saves it, from a machine with another folder."""
    rows = [("C:\\pets\\" + p.path.replace("/", "\\"), p.label, p.split, p.group, p.weight) for p in pictures]
    header = ("File Name", "Label", "Subset", "Group", "Sample weight")
    return write_csv(root / "excel.csv", header, rows, "utf-8-sig", delimiter=";", lineterminator="\r\n")


def unicode_text(root: Path, pictures: Sequence[Picture]) -> Path:
    rows = [(f"./{p.path}", p.label, (p.split or "").upper(), p.group, p.weight) for p in pictures]
    header = ("path", "label", "split", "group", "weight")
    return write_csv(root / "unicode.tsv", header, rows, "utf-16", delimiter="\t")


def jsonl(root: Path, pictures: Sequence[Picture]) -> Path:
    records = [
        {"file": p.path, "label": p.label, "set": p.split, "camera": p.group, "weight": p.weight} for p in pictures
    ]
    return write_lines(root / "plain.jsonl", records)


def json_list(root: Path, pictures: Sequence[Picture]) -> Path:
    path = root / "plain.json"
    path.write_text(
        json.dumps(
            [
                {"img": str(root / p.path), "label": [p.label], "split": p.split, "group": p.group, "weight": p.weight}
                for p in pictures
            ],
            indent=1,
        )
    )
    return path


def vertex_csv(root: Path, pictures: Sequence[Picture]) -> Path:
    uses = {"train": "training", "val": "VALIDATION", "test": "TEST"}
    return write_csv(root / "vertex.csv", (), [(uses[str(p.split)], f"{BUCKET}/{p.path}", p.label) for p in pictures])


def vertex_jsonl(root: Path, pictures: Sequence[Picture]) -> Path:
    records = [
        {
            "imageGcsUri": f"{BUCKET}/{p.path}",
            "classificationAnnotation": {"displayName": p.label, "annotationResourceLabels": {"x": "y"}},
            "dataItemResourceLabels": {
                "aiplatform.googleapis.com/ml_use": {"val": "validation"}.get(str(p.split), p.split),
                "group": p.group,
                "weight": str(p.weight),
            },
        }
        for p in pictures
    ]
    return write_lines(root / "vertex.jsonl", records)


def sagemaker(root: Path, pictures: Sequence[Picture]) -> Path:
    records = [
        {
            "source-ref": f"s3://bucket/pets/{p.path}",
            "animal": 1,
            "animal-metadata": {"class-name": p.label, "confidence": 0.9, "type": "groundtruth/image-classification"},
            "split": p.split,
            "group": p.group,
            "weight": p.weight,
        }
        for p in pictures
    ]
    return write_lines(root / "sagemaker.manifest", records)


def label_studio(root: Path, pictures: Sequence[Picture]) -> Path:
    def annotation(label: str, at: str, **others: object) -> dict[str, object]:
        result = {"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": [label]}}
        return {"updated_at": f"2026-01-0{at}T10:00:00.000000Z", "result": [result], **others}

    tasks = [
        {
            "id": number,
            "data": {
                "image": f"/data/local-files/?d=sets/{root.name}/{p.path.replace(' ', '%20')}",
                "split": p.split,
                "group": p.group,
                "weight": p.weight,
            },
            "annotations": [
                annotation("wrong", "1"),
                annotation(p.label, "3", was_cancelled=False),
                annotation("wrong", "2"),
                annotation("wrong", "4", was_cancelled=True),
            ],
            "predictions": [],
        }
        for number, p in enumerate(pictures)
    ]
    path = root / "export.json"
    path.write_text(json.dumps(tasks, indent=2))
    return path


def columns_of(pictures: Sequence[Picture]) -> dict[str, list[object]]:
    return {
        "label": [p.label for p in pictures],
        "split": [p.split for p in pictures],
        "group": [p.group for p in pictures],
        "weight": [p.weight for p in pictures],
    }


def parquet_of_paths(root: Path, pictures: Sequence[Picture]) -> Path:
    path = root / "paths.parquet"
    pq.write_table(pa.table({"file_name": [p.path for p in pictures], **columns_of(pictures)}), path)
    return path


def parquet_of_bytes(root: Path, pictures: Sequence[Picture]) -> Path:
    path = root / "bytes.parquet"
    encoded = [(root / p.path).read_bytes() for p in pictures]
    table = pa.table({"image": encoded, "path": [p.path for p in pictures], **columns_of(pictures)})
    pq.write_table(table, path, row_group_size=7)
    return path


def hugging_face(root: Path, pictures: Sequence[Picture]) -> Path:
    """As `datasets` writes it: labels are numbers, whose names are in the metadata."""
    path = root / "hf.parquet"
    names = sorted({p.label for p in pictures})
    values = columns_of(pictures)
    values["label"] = [names.index(p.label) for p in pictures]
    image = [{"bytes": (root / p.path).read_bytes(), "path": p.path} for p in pictures]
    table = pa.table({"image": image, **values})
    described = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(described)}), path, row_group_size=5)
    return path


DIALECTS = (
    *(plain, excel, unicode_text, jsonl, json_list, vertex_csv, vertex_jsonl, sagemaker, label_studio),
    *(parquet_of_paths, parquet_of_bytes, hugging_face),
)
WITHOUT_GROUPS = (vertex_csv,)
SETTINGS = {
    excel: lambda root: {"uri_map": {"C:\\pets": str(root)}},
    vertex_csv: lambda root: {"uri_map": {"gs://bucket/pets": str(root)}},
    vertex_jsonl: lambda root: {"uri_map": {"gs://bucket": "/nowhere", "gs://bucket/pets/": str(root)}},
    sagemaker: lambda root: {"uri_map": {"s3://bucket/pets": str(root)}},
}
