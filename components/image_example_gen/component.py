"""ImageExampleGen, the first node: from a source of labelled images to checked `tf.train.Example`s in three splits."""

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.channel_utils import as_channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.image_example_gen.executor import (
    CODE_HASH_KEY,
    DATA_SETTINGS_KEY,
    EXAMPLES_KEY,
    SOURCE_FINGERPRINT_KEY,
    ImageExampleGenExecutor,
)
from data.settings import DataSettings


class ImageExampleGenSpec(ComponentSpec):
    """Parameters and output of ImageExampleGen."""

    PARAMETERS = {
        DATA_SETTINGS_KEY: ExecutionParameter(type=str),
        SOURCE_FINGERPRINT_KEY: ExecutionParameter(type=str),
        CODE_HASH_KEY: ExecutionParameter(type=str),
    }
    INPUTS: dict = {}
    OUTPUTS = {EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Reads, checks and splits labelled images; see `data.features` for what an example holds.

    Beside the splits, the artifact holds `quarantine.jsonl`, `data_summary.json`, the hashes of each split's images,
    `image_statistics.json`, `bit_depth.json` and, where there are any, a few original files of `test` that are stored
    as a PNG (`data.originals`).
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ImageExampleGenExecutor)

    def __init__(self, data_settings: DataSettings, source_fingerprint: str, code_hash: str) -> None:
        """Wires the node.

        Args:
            data_settings: what to read, and how to check and split it.
            source_fingerprint: `Source.fingerprint()`: part of the cache key, so that changed images are read again.
            code_hash: of this node's code: part of the cache key, so that changed code runs again.
        """
        super().__init__(
            spec=ImageExampleGenSpec(
                **{
                    DATA_SETTINGS_KEY: data_settings.without_unread().model_dump_json(),
                    SOURCE_FINGERPRINT_KEY: source_fingerprint,
                    CODE_HASH_KEY: code_hash,
                    EXAMPLES_KEY: as_channel([standard_artifacts.Examples()]),
                }
            )
        )
