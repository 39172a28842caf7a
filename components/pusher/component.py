"""The Pusher node."""

from tfx.components.pusher.component import Pusher
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import BaseChannel

from components.code_hash import make_code_hash
from components.pusher.executor import Executor
from components.pusher.spec import PusherSpec, build_pusher


class AtomicPusher(Pusher):
    """TFX's Pusher, whose version folders are whole or not there; its id is `Pusher`."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: BaseChannel,
        base_directory: str,
        model_blessing: BaseChannel | None = None,
        predictions: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
            model: what is pushed.
            base_directory: folder of the model's versions, local, `gs://` or `s3://`.
            model_blessing: the Evaluator's verdict, of all gates; without its blessing nothing is pushed.
            predictions: of the Predictor; the pushed model carries its profile of the test split.
        """
        build_pusher(
            self,
            model=model,
            model_blessing=model_blessing,
            predictions=predictions,
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=base_directory)
            ),
            custom_config={"code_hash": make_code_hash(Executor.__module__)},
        )
