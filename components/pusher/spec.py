"""What both Pushers take in beside what TFX's does: the predictions, of which the pushed model carries a profile."""

from typing import Any

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.types import BaseChannel, Channel, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils

PREDICTIONS_KEY = "predictions"


class PusherSpec(specs.PusherSpec):
    """Inputs and outputs of TFX's Pusher, and the predictions on test."""

    INPUTS = {
        **specs.PusherSpec.INPUTS,
        PREDICTIONS_KEY: ChannelParameter(type=standard_artifacts.InferenceResult, optional=True),
    }


def build_pusher(
    node: BaseComponent,
    *,
    model: BaseChannel,
    model_blessing: BaseChannel | None,
    predictions: BaseChannel | None,
    push_destination: Any = None,
    custom_config: dict[str, Any],
) -> None:
    """Does what the constructor of TFX's Pusher does, whose inputs are fixed, for a node with this specification."""
    given = {"model_blessing": model_blessing, PREDICTIONS_KEY: predictions, "push_destination": push_destination}
    spec = PusherSpec(
        model=model,
        custom_config=json_utils.dumps(custom_config),
        pushed_model=Channel(type=standard_artifacts.PushedModel),
        **{key: value for key, value in given.items() if value is not None},
    )
    BaseComponent.__init__(node, spec=spec)
    node.with_id(specs.PusherSpec.__name__.removesuffix("Spec"))
