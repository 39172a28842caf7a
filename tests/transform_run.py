"""Runs the Transform executor on images made in a test."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils

from components.transform.executor import Executor
from components.transform.features import TRANSFORMED_FEATURE_SPEC
from data.bit_depth import write_bit_depth
from data.extras import write_extras
from data.features import GROUP_KEY, IMAGE_KEY, LABEL_KEY, NAME_KEY, WEIGHT_KEY
from data.image_hashes import make_image_hashes, split_hashes_file, write_image_hashes
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS

SPLITS = ["train", "eval", "test"]
BIT_DEPTH = 12
"""Not the one that holds where none is recorded, so that who loses it shows."""
FIXED_SHAPE = "shape { dim { size: 1 } }"
"""What SchemaGen infers; without it TFX reads a feature as sparse."""


def make_artifact(kind: type, uri: Path, splits: list[str] | None = None) -> Any:
    """Returns a TFX artifact at a folder, which is made."""
    uri.mkdir(parents=True, exist_ok=True)
    artifact = kind()
    artifact.uri = str(uri)
    if splits:
        artifact.split_names = artifact_utils.encode_split_names(splits)
    return artifact


def make_example(encoded: bytes, label: str, name: str, extras: tuple[float, str] | None = None) -> bytes:
    """Returns a serialised Example of the raw features that matter here; `extras` are weight and group."""
    values = {IMAGE_KEY: encoded, LABEL_KEY: label.encode(), NAME_KEY: name.encode()}
    if extras:
        values[GROUP_KEY] = extras[1].encode()
    features = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()}
    if extras:
        features[WEIGHT_KEY] = tf.train.Feature(float_list=tf.train.FloatList(value=[extras[0]]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def run_transform(
    root: Path,
    images: Mapping[str, Iterable[tuple[bytes, str]]],
    settings: Mapping[str, Any],
    feature_shape: str = FIXED_SHAPE,
    extras_of: Callable[[str, int], tuple[float, str]] | None = None,
) -> tft.TFTransformOutput:
    """Writes Examples to `root/examples`, transforms them to `root/transformed` and the graph to `root/graph`.

    Args:
        root: a folder of the test's own.
        images: split to (encoded image, label).
        settings: of `TransformSettings`.
        feature_shape: of each raw feature, as it stands in the schema.
        extras_of: split and number of an image -> its weight and group; None where the data set has none.
    """
    examples = make_artifact(standard_artifacts.Examples, root / "examples", SPLITS)
    for split in SPLITS:
        folder = root / "examples" / f"Split-{split}"
        folder.mkdir()
        pairs = list(images[split])
        with tf.io.TFRecordWriter(str(folder / "data-00000-of-00001.gz"), options="GZIP") as writer:
            for number, (encoded, label) in enumerate(pairs):
                extras = extras_of(split, number) if extras_of else None
                writer.write(make_example(encoded, label, f"{split}/{number}", extras))
        hashes = make_image_hashes(hashlib.sha256(encoded).hexdigest() for encoded, _ in pairs)
        write_image_hashes(hashes, str(root / "examples" / split_hashes_file(split)))
    write_bit_depth(BIT_DEPTH, str(root / "examples"))
    write_extras((WEIGHT_KEY, GROUP_KEY) if extras_of else (), str(root / "examples"))
    schema = make_artifact(standard_artifacts.Schema, root / "schema")
    (root / "schema" / "schema.pbtxt").write_text(
        "".join(
            f'feature {{ name: "{key}" type: BYTES presence {{ min_fraction: 1 min_count: 1 }} {feature_shape} }}\n'
            for key in (IMAGE_KEY, LABEL_KEY, NAME_KEY)
        )
    )
    (root / "temporary").mkdir()
    executor = Executor(
        Executor.Context(beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(root / "temporary"), unique_id="1")
    )
    executor.Do(
        {"examples": [examples], "schema": [schema]},
        {
            "transform_graph": [make_artifact(standard_artifacts.TransformGraph, root / "graph")],
            "transformed_examples": [make_artifact(standard_artifacts.Examples, root / "transformed")],
        },
        {
            "preprocessing_fn": "components.transform.preprocessing.preprocessing_fn",
            "custom_config": json_utils.dumps({"transform": dict(settings), "code_hash": "0"}),
            "force_tf_compat_v1": 0,
            "disable_statistics": 1,
        },
    )
    return tft.TFTransformOutput(str(root / "graph"))


def read_transformed(root: Path, split: str) -> list[dict[str, Any]]:
    """Returns a split's transformed Examples in order, as Python values."""
    files = sorted(str(path) for path in (root / "transformed" / f"Split-{split}").iterdir())
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    return [
        {key: value.numpy() for key, value in tf.io.parse_single_example(record, TRANSFORMED_FEATURE_SPEC).items()}
        for record in records
    ]
