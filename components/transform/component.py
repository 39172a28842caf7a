"""The Transform node."""

import tfx.components
from tfx.dsl.components.base import executor_spec

from components.transform.executor import Executor


class Transform(tfx.components.Transform):
    """TFX's node of this name; its `transformed_examples` also hold the hashes of each split's images."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
