"""The Tuner node."""

from typing import Any

from tfx.components.tuner.component import Tuner
from tfx.dsl.components.base import executor_spec
from tfx.proto import trainer_pb2
from tfx.types import BaseChannel

from components.code_hash import make_code_hash
from components.tuner.executor import Executor
from components.tuner.settings import TunerSettings

TUNER_FN = "components.tuner.tuner_fn.tuner_fn"


class TrialTunerNode(Tuner):
    """TFX's Tuner, whose trials train as the Trainer does; its id is `Tuner`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        settings: TunerSettings,
        *,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        trainer_config: dict[str, Any],
        checkpoint_dir: str,
    ) -> None:
        """Builds the node.

        Args:
            settings: what is tried out.
            examples: transformed Examples; `train` and `eval` are read, no other split.
            transform_graph: of the transform that made them.
            trainer_config: the Trainer's `custom_config`.
            checkpoint_dir: the folder, the same in every run, in which a search that is killed leaves its state.
        """
        super().__init__(
            examples=examples,
            transform_graph=transform_graph,
            tuner_fn=TUNER_FN,
            train_args=trainer_pb2.TrainArgs(splits=["train"]),
            eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
            custom_config={
                **trainer_config,
                "tuner": settings.model_dump(mode="json"),
                "code_hash": make_code_hash(TUNER_FN.rpartition(".")[0]) + make_code_hash(Executor.__module__),
                "checkpoint_dir": checkpoint_dir,
            },
        )
        self.with_id(Tuner.__name__)
