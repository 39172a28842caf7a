"""TFX's Transform, which also hands on which images each split holds and what they look like."""

import itertools
import os
import tempfile
from typing import Any

import tensorflow as tf
from tfx.components.transform import executor as tfx_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import json_utils

from components.image_example_gen.summary import count_images
from components.progress import ImageCount
from components.record_batches import reading_in_batches, records_at_once
from components.transform.extra_schema import extend_schema
from components.transform.features import CHANNELS
from components.transform.settings import TransformSettings, write_transform_settings
from data.bit_depth import read_bit_depth, write_bit_depth
from data.extras import read_extras
from data.features import SPLITS
from data.files import remove_path
from data.image_hashes import split_hashes_file
from data.image_statistics import copy_image_statistics


class Executor(tfx_executor.Executor):
    """Leaves the images' hashes, statistics and bit depth, and the settings, beside the transformed examples.

    The Trainer sees no others.

    As a feature of each example they would have to be read back with all the pixels, a pass over the whole split.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Transforms, then copies, into empty folders.

        A killed attempt at the same place leaves shards that would be read with the new, and a graph that TensorFlow
        Transform cannot replace.
        """
        for artifact in itertools.chain(*output_dict.values()):
            remove_path(artifact.uri)
            tf.io.gfile.makedirs(artifact.uri)
        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        settings = TransformSettings.model_validate(json_utils.loads(exec_properties["custom_config"])["transform"])
        batch_size = records_at_once(examples, SPLITS, settings.image_size**2 * CHANNELS)
        count = ImageCount(
            ("finding classes", count_images(examples.uri, ["train"])),
            ("resizing images", count_images(examples.uri, SPLITS)),
        )
        source = artifact_utils.get_single_uri(input_dict[specs.EXAMPLES_KEY])
        with tempfile.TemporaryDirectory(prefix="schema-") as folder, reading_in_batches(batch_size, count):
            if extras := read_extras(source):
                schema = extend_schema(input_dict[specs.SCHEMA_KEY], extras, folder)
                input_dict = {**input_dict, specs.SCHEMA_KEY: schema}
            super().Do(input_dict, output_dict, exec_properties)
        target = artifact_utils.get_single_uri(output_dict[specs.TRANSFORMED_EXAMPLES_KEY])
        for split in SPLITS:
            name = split_hashes_file(split)
            tf.io.gfile.copy(os.path.join(source, name), os.path.join(target, name))
        copy_image_statistics(source, target)
        write_bit_depth(read_bit_depth(source), target)
        write_transform_settings(settings, target)
