"""The node that brings a curated schema into the pipeline."""

import hashlib

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base import base_component
from tfx.types import Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ExecutionParameter

from data.errors import UserError
from data.features import IMAGE_KEY, LABEL_KEY

SCHEMA_HASH_KEY = "schema_hash"


class CuratedSchemaGenSpec(specs.ImportSchemaGenSpec):
    """Parameters and output of TFX's ImportSchemaGen, and the hash of the file."""

    PARAMETERS = {**specs.ImportSchemaGenSpec.PARAMETERS, SCHEMA_HASH_KEY: ExecutionParameter(type=str)}


class CuratedSchemaGen(ImportSchemaGen):
    """TFX's ImportSchemaGen, which alone would serve an edited file from cache; its id is `ImportSchemaGen`."""

    SPEC_CLASS = CuratedSchemaGenSpec

    def __init__(self, schema_file: str) -> None:
        """Wires the node.

        Args:
            schema_file: a `.pbtxt` file, local or `gs://`.

        Raises:
            UserError: see `hash_schema`.
        """
        parameters = {specs.SCHEMA_FILE_KEY: schema_file, SCHEMA_HASH_KEY: hash_schema(schema_file)}
        spec = CuratedSchemaGenSpec(**parameters, **{specs.SCHEMA_KEY: Channel(type=standard_artifacts.Schema)})
        base_component.BaseComponent.__init__(self, spec=spec)
        self.with_id(ImportSchemaGen.__name__)


def hash_schema(path: str) -> str:
    """Returns the hexadecimal SHA-256 of a schema file.

    Raises:
        UserError: it cannot be read, is no schema, or lacks a feature that Transform reads.
    """
    advice = "give a schema.pbtxt, such as a copy of pipeline_root/SchemaGen/schema/*/schema.pbtxt"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
        schema = text_format.Parse(content, schema_pb2.Schema())
    except tf.errors.OpError as error:
        raise UserError(f"schema_path is {path}, which cannot be read ({type(error).__name__}); {advice}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"schema_path is {path}, which is no schema ({error}); {advice}") from error
    names = {feature.name for feature in schema.feature}
    for name in (IMAGE_KEY, LABEL_KEY):
        if name not in names:
            raise UserError(f"schema_path is {path}, which has no feature {name!r}; {advice}")
    return hashlib.sha256(content).hexdigest()
