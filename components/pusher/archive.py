"""What is pushed: the model as it was exported, and beside it what it met on test."""

import os
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils

from components.exported_model.reference import PUSHED_REFERENCE_FILE, REFERENCE_FILE
from components.pusher.spec import PREDICTIONS_KEY


def archive_model(model_path: str, input_dict: Mapping[str, Sequence[Artifact]], target: str) -> None:
    """Copies a model into the `pushed_model` artifact, and adds the profile of the test split.

    The `model` artifact stays as the Trainer wrote it, from which the test split is kept.

    Args:
        model_path: folder of the SavedModel.
        input_dict: of the Pusher; its `predictions` may be missing.
        target: local or remote folder; what is there is replaced.
    """
    io_utils.copy_dir(model_path, target)
    if not input_dict.get(PREDICTIONS_KEY):
        return
    predictions = artifact_utils.get_single_instance(list(input_dict[PREDICTIONS_KEY]))
    path = os.path.join(target, PUSHED_REFERENCE_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    tf.io.gfile.copy(os.path.join(predictions.uri, REFERENCE_FILE), path, overwrite=True)
