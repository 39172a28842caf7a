"""Near duplicates among the images of the first Beam job, where they are to stay together."""

import base64
import json
import os

import numpy as np
import tensorflow as tf

from components.progress import report_progress
from data.errors import UserError
from data.near_duplicates import VALUES, describe_image, describe_picture, join_alike
from data.picture import Picture

_MOST_IMAGES = 100_000
"""Of all splits together: 120 MB of descriptors, and 5e9 comparisons."""


def encode_descriptor(encoded: bytes, picture: Picture, bit_depth: int) -> str:
    """Returns an image's descriptor as a text of 800 characters, for its line.

    Args:
        encoded: the file.
        picture: what was read from it.
        bit_depth: what is shown of 16 bits a channel.
    """
    # As the report describes it, which reads a JPEG at an eighth.
    vector = describe_image(encoded) if picture.format == "jpeg" else describe_picture(picture.at(bit_depth))
    return base64.b64encode(vector.astype(np.float16).tobytes()).decode()


def find_alike(records_dir: str) -> dict[str, str]:
    """Returns content hash -> another one, of the near duplicates among the images that `add_check` described.

    Raises:
        UserError: there are more than 100,000 different ones.
    """
    described: dict[str, bytes] = {}
    for path in tf.io.gfile.glob(os.path.join(records_dir, "records*")):
        with tf.io.gfile.GFile(path) as file:
            for line in file:
                values = json.loads(line)
                if text := values.get("descriptor"):
                    described[values["record"]["sha256"]] = base64.b64decode(text)
    if len(described) > _MOST_IMAGES:
        raise UserError(
            f"data.near_duplicates is keep_together, and there are {len(described):,} different images; it is offered"
            f" up to {_MOST_IMAGES:,}: set it to tell, or give the images groups"
        )
    report_progress("looking for near duplicates")
    names = sorted(described)
    vectors = np.frombuffer(b"".join(described[name] for name in names), np.float16).reshape(-1, VALUES)
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, 1.0)  # what float16 has rounded
    return join_alike(names, vectors)
