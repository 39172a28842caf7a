"""The schema that Transform reads by, of a data set whose examples hold more than those of all: see `data.extras`.

Statistics, schema and their validation leave these features out, as they do names and hashes; a curated schema need
not know them.
"""

import os
from collections.abc import Sequence

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx.utils import io_utils

from data.features import GROUP_KEY, WEIGHT_KEY

_FILE = "schema.pbtxt"
_TYPES = {WEIGHT_KEY: schema_pb2.FLOAT, GROUP_KEY: schema_pb2.BYTES}


def extend_schema(schema: Sequence[Artifact], extras: Sequence[str], folder: str) -> list[Artifact]:
    """Returns a schema that also holds the extra features, one value each; what it has of them already stays.

    Args:
        schema: the node's input.
        extras: of `data.extras.read_extras`.
        folder: local, gets the file.
    """
    path = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(list(schema)))
    proto = io_utils.SchemaReader().read(path)
    present = {feature.name for feature in proto.feature}
    for key in extras:
        if key not in present:
            feature = proto.feature.add(name=key, type=_TYPES[key])
            feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
            feature.shape.dim.add(size=1)
    io_utils.write_pbtxt_file(os.path.join(folder, _FILE), proto)
    extended = standard_artifacts.Schema()
    extended.uri = folder
    return [extended]
