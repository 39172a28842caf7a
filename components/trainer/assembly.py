"""What a training is made of."""

from dataclasses import dataclass

import tensorflow_transform as tft

from components.trainer.inputs import Split
from components.trainer.model import ImageClassifier
from components.trainer.strategy import Precision
from components.trainer.weights import ResolvedWeights


@dataclass(frozen=True)
class Assembly:
    """All that `train` needs, and what it was made from."""

    model: ImageClassifier
    train_split: Split
    eval_split: Split
    weights: ResolvedWeights
    precision: Precision
    transform_output: tft.TFTransformOutput
