"""The signatures of an exported model: what clients, TFMA and later nodes may ask it, and what it answers."""

from dataclasses import dataclass

from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY

TOP_K = 5
"""How many classes `serving_default` names, where there are as many."""

SERVING_SIGNATURE = "serving_default"
"""Encoded JPEG, PNG, GIF or BMP -> the likeliest classes, best first: [batch, k], k = min(TOP_K, classes)."""

EXAMPLES_SIGNATURE = "serving_examples"
"""Serialised Examples with an image -> [batch, classes], in the order of the vocabulary."""

EMBED_SIGNATURE = "embed_examples"
"""The same, and [batch, features], what the head sees: pooled channels of one or several blocks."""

TRANSFORM_SIGNATURE = "transform_features"
"""Serialised Examples with image and label -> the transformed features, each [batch]."""


@dataclass(frozen=True)
class Signature:
    """What goes in and comes out.

    Attributes:
        argument: the one input, string [batch].
        outputs: name -> type.
    """

    argument: str
    outputs: dict[str, str]


SIGNATURES = {
    SERVING_SIGNATURE: Signature("image_bytes", {"labels": "string", "probabilities": "float32"}),
    EXAMPLES_SIGNATURE: Signature("examples", {"probabilities": "float32"}),
    EMBED_SIGNATURE: Signature("examples", {"probabilities": "float32", "embeddings": "float32"}),
    TRANSFORM_SIGNATURE: Signature("examples", {TRANSFORMED_IMAGE_KEY: "string", TRANSFORMED_LABEL_KEY: "int64"}),
}

CLASSIFYING_SIGNATURES = tuple(name for name, signature in SIGNATURES.items() if "probabilities" in signature.outputs)
