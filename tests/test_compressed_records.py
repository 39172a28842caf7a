"""What a record becomes in a gzipped file of records."""

import gzip
from pathlib import Path

import pytest
import tensorflow as tf

from components.image_example_gen.compressed_records import compress_record


@pytest.mark.parametrize(("file_format", "shrinks"), [("jpeg", False), ("png", False), ("bmp", True)])
def test_only_what_is_not_compressed_already_is_compressed_and_all_is_read_back(
    tmp_path: Path, file_format: str, shrinks: bool
) -> None:
    records = [b"a" * 200_000, b"", b"b" * 70_000]
    members = [compress_record(record, file_format) for record in records]
    assert (len(members[0]) < 2_000) is shrinks
    path = tmp_path / "records.gz"
    path.write_bytes(b"".join(members))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path), "GZIP")] == records
    assert len(gzip.decompress(path.read_bytes())) == sum(map(len, records)) + 16 * len(records)
