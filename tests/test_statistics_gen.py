"""StatisticsGen beside TFX's own node, which sees the images."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tfx.components.statistics_gen.executor import Executor as TfxExecutor
from tfx.types import standard_artifacts

from components.image_example_gen.compressed_records import compress_record
from components.image_example_gen.examples import make_example
from components.progress import ImageCount
from components.statistics_gen.executor import VALIDATED_FEATURES, Executor, without_pixels
from data.image_check import CheckedImage
from data.sources.source import SourceImage
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests import images
from tests.transform_run import SPLITS, make_artifact


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Examples of two classes as ImageExampleGen writes them; more images than a schema lists values of."""
    artifact = make_artifact(standard_artifacts.Examples, tmp_path_factory.mktemp("examples"), SPLITS)
    artifact.span = 7
    random = np.random.default_rng(0)
    for split in SPLITS:
        folder = Path(artifact.uri, f"Split-{split}")
        folder.mkdir()
        records = []
        for i in range(130 if split == "train" else 3):
            encoded = images.encode(random.integers(0, 256, [8, 8, 3], np.uint8), "PNG")
            image = SourceImage(f"{split}/{i}.png", "cat" if i % 3 else "dog", None, encoded)
            checked = CheckedImage(encoded, 8 + i, 8, "png", reencoded=False)
            records.append(compress_record(make_example(image, checked, "0" * 64, {}).SerializeToString(), "png"))
        (folder / "data_tfrecord-00000-of-00001.gz").write_bytes(b"".join(records))
    return artifact


def measure(executor_class, examples, folder, parameters):
    """Returns the artifact that an executor makes, and its statistics of each split."""
    artifact = make_artifact(standard_artifacts.ExampleStatistics, folder)
    (folder / "temporary").mkdir()
    context = executor_class.Context(
        beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(folder / "temporary"), unique_id="1"
    )
    executor_class(context).Do({"examples": [examples]}, {"statistics": [artifact]}, parameters)
    return artifact, {
        split: tfdv.load_stats_binary(str(folder / f"Split-{split}" / "FeatureStats.pb")) for split in SPLITS
    }


@pytest.mark.slow
def test_schema_and_all_other_figures_are_those_that_tfx_finds(examples, tmp_path):
    options = tfdv.StatsOptions(feature_allowlist=list(VALIDATED_FEATURES))
    ours, found = measure(Executor, examples, tmp_path / "ours", {})
    tfx, expected = measure(TfxExecutor, examples, tmp_path / "tfx", {"stats_options_json": options.to_json()})
    assert (ours.split_names, ours.span) == (tfx.split_names, tfx.span)
    schema = tfdv.infer_schema(found["train"], infer_feature_shape=True)
    expected_schema = tfdv.infer_schema(expected["train"], infer_feature_shape=True)
    assert text_format.MessageToString(schema) == text_format.MessageToString(expected_schema)
    for split in SPLITS:
        assert not tfdv.validate_statistics(found[split], schema).anomaly_info
        assert found[split].datasets[0].num_examples == expected[split].datasets[0].num_examples
        features, expected_features = (
            {feature.path.step[0]: feature for feature in statistics[split].datasets[0].features}
            for statistics in (found, expected)
        )
        assert features.keys() == set(VALIDATED_FEATURES)
        for name in features.keys() - {"image"}:
            assert features[name] == expected_features[name]


def test_an_example_keeps_all_but_the_pixels(examples):
    files = [str(path) for path in Path(examples.uri, "Split-test").iterdir()]
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        before, after = (
            tf.train.Example.FromString(record),
            tf.train.Example.FromString(without_pixels(record, ImageCount())),
        )
        assert list(after.features.feature["image"].bytes_list.value) == [b"\xff"]
        after.features.feature["image"].CopyFrom(before.features.feature["image"])
        assert after == before


def test_an_example_without_an_image_stays_one():
    """So that ExampleValidator tells it."""
    record = tf.train.Example(features=tf.train.Features(feature={"label": tf.train.Feature()}))
    assert without_pixels(record.SerializeToString(), ImageCount()) == record.SerializeToString()
