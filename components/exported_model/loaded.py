"""A model that was pushed, loaded to answer: by the commands that classify files, and by the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from components.exported_model.manifest import read_manifest
from components.exported_model.signatures import (
    DECISION,
    EXPLAIN_SIGNATURE,
    PIXELS_SIGNATURE,
    RESIZE_SIGNATURE,
    SERVING_SIGNATURE,
    UNKNOWN_SCORE,
)
from data import gfile
from data.bit_depth import WHOLE
from data.errors import UserError
from data.image_check import store_picture
from data.picture import read_picture


@dataclass(frozen=True)
class ModelAnswer:
    """What a model says of one image.

    Attributes:
        labels: the likeliest classes, best first.
        probabilities: theirs.
        decision: the class that may be acted upon, "" where a person should look; None of a model that decides nothing.
        unknown_score: how unlike the images of train it is; above 1 the model does not know it. None as above.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    decision: str | None = None
    unknown_score: float | None = None

    def to_json(self, top_k: int | None = None) -> dict[str, Any]:
        """Returns `label`, `probability`, `top_k` (a list of both), `decision` and `unknown_score`.

        Args:
            top_k: how many classes; None for all that there are.
        """
        ranked = [
            {"label": label, "probability": probability}
            for label, probability in zip(self.labels[:top_k], self.probabilities[:top_k], strict=True)
        ]
        return {**ranked[0], "top_k": ranked, "decision": self.decision, "unknown_score": self.unknown_score}


class LoadedModel:
    """A SavedModel of this pipeline; calls may come from several threads.

    Attributes:
        path: its folder.
        manifest: what it says of itself; None in one of before there was any.
        top_k: how many classes it answers.
        can_explain: whether it tells where the evidence lies.
    """

    def __init__(self, path: Path | str) -> None:
        """Loads it, from a local or remote folder.

        Raises:
            UserError: it cannot be loaded, or is no model of this pipeline.
        """
        try:
            with gfile.local_copy(str(path)) as folder:  # once it is loaded, its files are not needed
                self._loaded = tf.saved_model.load(folder)
            signature = self._loaded.signatures[SERVING_SIGNATURE]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--model {path}: cannot be loaded as a model of this pipeline: {reason}") from None
        if "image_bytes" not in signature.structured_input_signature[1] or "labels" not in signature.structured_outputs:
            raise UserError(
                f"--model {path}: its {SERVING_SIGNATURE} does not map image_bytes to labels; give a model that this"
                " pipeline pushed"
            )
        self.path = path
        self.manifest = read_manifest(str(path))
        self.top_k = int(signature.structured_outputs["labels"].shape[1])
        self._bit_depth = self.manifest.bit_depth if self.manifest else WHOLE
        self._takes_pixels = PIXELS_SIGNATURE in self._loaded.signatures
        self.can_explain = EXPLAIN_SIGNATURE in self._loaded.signatures

    def has_signature(self, name: str) -> bool:
        """Says whether it has one of `SIGNATURES`."""
        return name in self._loaded.signatures

    def describe_input(self, signature_name: str) -> tuple[str, tuple[int | None, ...]]:
        """Returns type and shape of the one input of a signature."""
        (spec,) = self._loaded.signatures[signature_name].structured_input_signature[1].values()
        return spec.dtype.name, tuple(spec.shape)

    def describe_outputs(self, signature_name: str) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Returns name -> type and shape of what a signature answers."""
        outputs = self._loaded.signatures[signature_name].structured_outputs
        return {name: (spec.dtype.name, tuple(spec.shape)) for name, spec in sorted(outputs.items())}

    def prepare(self, encoded: bytes, max_pixels: int) -> np.ndarray | bytes:
        """Makes a file's picture, as a person sees it, the model's input, so that it is decoded once.

        Args:
            encoded: the file's bytes: JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF or HEIC.
            max_pixels: the most pixels (height x width) that are decoded.

        Returns:
            uint8 [image_size, image_size, 3]; for a model without the signatures for it, what `serving_default` takes.

        Raises:
            UnusableImage: as `read_picture`.
        """
        return self.look_at(encoded, max_pixels)[1]

    def look_at(self, encoded: bytes, max_pixels: int) -> tuple[Image.Image, np.ndarray | bytes]:
        """Returns the RGB picture as a person sees it, and what `prepare` does; arguments and errors as there."""
        read = read_picture(encoded, max_pixels)
        picture = read.at(self._bit_depth)
        if not self._takes_pixels:
            return picture, store_picture(encoded, read, self._bit_depth).encoded
        pixels = self._loaded.signatures[RESIZE_SIGNATURE](picture=tf.constant(np.asarray(picture)))["pixels"]
        return picture, pixels.numpy()

    def answer(self, prepared: Sequence[np.ndarray | bytes]) -> list[ModelAnswer]:
        """Classifies one batch of what `prepare` returned."""
        if self._takes_pixels:
            outputs = self._loaded.signatures[PIXELS_SIGNATURE](pixels=tf.constant(np.stack(prepared)))
        else:
            outputs = self._loaded.signatures[SERVING_SIGNATURE](image_bytes=tf.constant(list(prepared)))
        count = len(prepared)
        decisions = [value.decode() for value in outputs[DECISION].numpy()] if DECISION in outputs else [None] * count
        scores = outputs[UNKNOWN_SCORE].numpy().tolist() if UNKNOWN_SCORE in outputs else [None] * count
        rows = zip(outputs["labels"].numpy(), outputs["probabilities"].numpy().tolist(), decisions, scores, strict=True)
        return [
            ModelAnswer(tuple(label.decode() for label in labels), tuple(values), *more)
            for labels, values, *more in rows
        ]

    def explain(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Tells where the evidence for the likeliest class lies, in a batch of what `prepare` returned.

        Returns:
            float32 [batch, rows, columns], 0..1, over all of the model's input.
        """
        return self._loaded.signatures[EXPLAIN_SIGNATURE](pixels=tf.constant(np.stack(prepared)))["evidence"].numpy()
