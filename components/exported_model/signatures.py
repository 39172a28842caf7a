"""The signatures of an exported model: what clients, TFMA and later nodes may ask it, and what it answers."""

from dataclasses import dataclass

from components.transform.features import CHANNELS, TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY

TOP_K = 5
"""How many classes `serving_default` names, where there are as many."""

SERVING_SIGNATURE = "serving_default"
"""Encoded JPEG, PNG, GIF or BMP -> the likeliest classes, best first: [batch, k], k = min(TOP_K, classes)."""

EXAMPLES_SIGNATURE = "serving_examples"
"""Serialised Examples with an image -> [batch, classes], in the order of the vocabulary."""

PICTURE_SIGNATURE = "serving_picture"
"""One decoded picture of any size, as a person sees it -> the answer of `serving_default`, a batch of one."""

RESIZE_SIGNATURE = "resize_picture"
"""The same -> the model's own input image, which Transform would have made: a batch of them is what follows."""

PIXELS_SIGNATURE = "serving_pixels"
"""Model inputs, uint8 [batch, image_size, image_size, 3] -> the answers of `serving_default`."""

EXPLAIN_SIGNATURE = "explain"
"""The same -> the likeliest classes, and where the evidence for the first lies, 0..1: [batch, rows, columns]."""

EMBED_SIGNATURE = "embed_examples"
"""What `serving_examples` takes and answers, and [batch, features], what the head sees: pooled channels of blocks."""

DECISION, UNKNOWN_SCORE = "decision", "unknown_score"
"""Outputs of all signatures that classify, each [batch]: the class that may be acted upon, empty where a person should
look; and how unlike the images of train it is: above 1, the model does not know it."""

PIXELS_ARGUMENT = "pixels"
"""The input of the signatures that take model inputs."""

TRANSFORM_SIGNATURE = "transform_features"
"""Serialised Examples with image and label -> the transformed features, each [batch]."""


@dataclass(frozen=True)
class Signature:
    """What goes in and comes out.

    Attributes:
        argument: the one input.
        outputs: name -> type.
        dtype: of the input.
        shape: of the input, None for an open dimension; of pixels, those of the height and width are the model's.
    """

    argument: str
    outputs: dict[str, str]
    dtype: str = "string"
    shape: tuple[int | None, ...] = (None,)


_LIKELIEST = {"labels": "string", "probabilities": "float32"}
_VERDICT = {DECISION: "string", UNKNOWN_SCORE: "float32"}
_ANSWER = _LIKELIEST | _VERDICT

SIGNATURES = {
    SERVING_SIGNATURE: Signature("image_bytes", _ANSWER),
    PICTURE_SIGNATURE: Signature("picture", _ANSWER, "uint8", (None, None, CHANNELS)),
    RESIZE_SIGNATURE: Signature("picture", {"pixels": "uint8"}, "uint8", (None, None, CHANNELS)),
    PIXELS_SIGNATURE: Signature(PIXELS_ARGUMENT, _ANSWER, "uint8", (None, None, None, CHANNELS)),
    EXPLAIN_SIGNATURE: Signature(
        PIXELS_ARGUMENT, _LIKELIEST | {"evidence": "float32"}, "uint8", (None, None, None, CHANNELS)
    ),
    EXAMPLES_SIGNATURE: Signature("examples", {"probabilities": "float32"} | _VERDICT),
    EMBED_SIGNATURE: Signature("examples", {"probabilities": "float32", "embeddings": "float32"} | _VERDICT),
    TRANSFORM_SIGNATURE: Signature("examples", {TRANSFORMED_IMAGE_KEY: "string", TRANSFORMED_LABEL_KEY: "int64"}),
}

ALONE = (PICTURE_SIGNATURE, RESIZE_SIGNATURE)
"""Those that take one picture: of one batch, all must have one size."""

CLASSIFYING_SIGNATURES = tuple(
    name
    for name, signature in SIGNATURES.items()
    if "probabilities" in signature.outputs and signature.dtype == "string"
)
"""Those that take a batch of strings, as a client of TensorFlow Serving sends them."""
