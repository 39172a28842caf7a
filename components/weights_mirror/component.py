"""WeightsMirror: brings ImageNet's weights from `trainer.weights_mirror` to where the Trainer's container looks first.

A node of its own, on Vertex AI alone and never cached: the mirror's address in the Trainer's own parameters would be
part of the Trainer's cache key there, and setting it would train again. The Trainer knows a folder that is always the
same.
"""

from tfx.dsl.component.experimental.annotations import Parameter
from tfx.dsl.component.experimental.decorators import component

from components.trainer.weights import keep_imagenet


@component
def WeightsMirror(backbone: Parameter[str], mirror: Parameter[str], weights_dir: Parameter[str]) -> None:
    """Copies the backbone's file, unless it is there by now.

    Args:
        backbone: a key of `BACKBONES`.
        mirror: `trainer.weights_mirror`.
        weights_dir: the folder that the Trainer is told.
    """
    keep_imagenet(backbone, mirror, weights_dir)
