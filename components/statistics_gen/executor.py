"""Runs TFDV over the examples, with one byte in place of each image."""

import os
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.components.statistics_gen.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_beam_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils
from tfx_bsl.public.tfxio import TFExampleBeamRecord

from components.image_example_gen.summary import count_images
from components.progress import ImageCount
from data.features import FORMAT_KEY, HEIGHT_KEY, IMAGE_KEY, LABEL_KEY, WIDTH_KEY

CODE_HASH_KEY = "code_hash"

VALIDATED_FEATURES = (IMAGE_KEY, LABEL_KEY, HEIGHT_KEY, WIDTH_KEY, FORMAT_KEY)
"""Not the names and hashes: each is another one, and a schema would list them as the only allowed values."""

_STAND_IN = b"\xff"
"""No text, as no image is: TFDV then takes the feature for bytes, of which it lists no allowed values."""


class Executor(base_beam_executor.BaseBeamExecutor):
    """In place of TFX's executor: TFDV keeps up to 20 MiB of records in each of 128 accumulators.

    With the images that was nearly every image of a split, for nothing: all that a schema says of them is that each
    example has one.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `FeatureStats.pb` of each split."""
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        statistics = artifact_utils.get_single_instance(output_dict[specs.STATISTICS_KEY])
        statistics.split_names, statistics.span = examples.split_names, examples.span
        records = TFExampleBeamRecord(physical_format="tfrecords_gzip", telemetry_descriptors=["StatisticsGen"])
        options = tfdv.StatsOptions(feature_allowlist=list(VALIDATED_FEATURES))
        splits = artifact_utils.decode_split_names(examples.split_names)
        count = ImageCount(("measuring images", count_images(examples.uri, splits)))
        with self._make_beam_pipeline() as pipeline:
            for split in splits:
                files = io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], split))
                path = os.path.join(artifact_utils.get_split_uri([statistics], split), DEFAULT_FILE_NAME)
                _ = (
                    pipeline
                    | f"Read[{split}]" >> beam.io.ReadFromTFRecord(files)
                    | f"StandIn[{split}]" >> beam.Map(without_pixels, count)
                    | f"Batch[{split}]" >> records.BeamSource()
                    | f"Measure[{split}]" >> tfdv.GenerateStatistics(options)
                    | f"Write[{split}]" >> tfdv.WriteStatisticsToBinaryFile(path)
                )


def without_pixels(record: bytes, count: ImageCount) -> bytes:
    """Returns a serialised Example, which is counted, with one byte in place of its image, where it has one."""
    count()
    example = tf.train.Example.FromString(record)
    if IMAGE_KEY in example.features.feature:
        example.features.feature[IMAGE_KEY].bytes_list.value[:] = [_STAND_IN]
    return example.SerializeToString()
