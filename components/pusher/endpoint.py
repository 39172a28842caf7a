"""The Pusher node for a Vertex endpoint."""

from tfx.components.pusher.component import Pusher
from tfx.dsl.components.base import executor_spec
from tfx.types import BaseChannel

from components.code_hash import make_code_hash
from components.google_cloud.endpoint_target import EndpointTarget
from components.pusher.endpoint_executor import ENDPOINT_KEY, EndpointExecutor
from components.pusher.spec import PusherSpec, build_pusher


class EndpointPusher(Pusher):
    """TFX's Pusher, which deploys a blessed model to an endpoint of Vertex AI; its id is `Pusher`."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(EndpointExecutor)

    def __init__(
        self,
        model: BaseChannel,
        endpoint: EndpointTarget,
        model_blessing: BaseChannel | None = None,
        predictions: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
            model: what is pushed.
            endpoint: where and on what.
            model_blessing: the Evaluator's verdict, of all gates; without its blessing nothing is pushed.
            predictions: of the Predictor; the pushed model carries its profile of the test split.
        """
        build_pusher(
            self,
            model=model,
            model_blessing=model_blessing,
            predictions=predictions,
            custom_config={
                ENDPOINT_KEY: endpoint.model_dump(mode="json"),
                "code_hash": make_code_hash(EndpointExecutor.__module__),
            },
        )
