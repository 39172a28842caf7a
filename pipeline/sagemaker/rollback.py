"""Takes an endpoint back to an earlier version, in steps that can be gone on with from wherever they were stopped."""

import re
from dataclasses import dataclass

from components.evaluator.rollback import Rollback
from data.errors import Fault, UserError
from pipeline.sagemaker.archive import same_model
from pipeline.sagemaker.calls import Calls
from pipeline.sagemaker.deployment import change
from pipeline.sagemaker.endpoint import Endpoint, UnderWay, describe_model
from pipeline.sagemaker.endpoint_state import CANARY, STABLE, State
from pipeline.sagemaker.limits import TAG_VALUE
from pipeline.sagemaker.resources import Made, PastModel, read_history
from pipeline.sagemaker.settings import ROLLED_BACK_TAG


@dataclass(frozen=True)
class Plan:
    """What a rollback does.

    Attributes:
        state: of the endpoint.
        to: the model that then serves.
        leaving: those that are marked as rolled back, the newest first.
    """

    state: State
    to: PastModel
    leaving: tuple[PastModel, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing else serves."""
        return [variant.model for variant in self.state.variants] == [self.to.name] and not self.leaving


def plan_rollback(calls: Calls, endpoint: Endpoint, to: int | None) -> Plan:
    """Says what a rollback does; it changes nothing.

    Args:
        calls: to AWS.
        endpoint: which.
        to: the version that is to serve; None for the one beside the canary, or without one the newest earlier one that
            is another model and was not rolled back.

    Raises:
        UserError: there is none to go back to, or the one that was named is none.
    """
    state = endpoint.settle()
    stable = state.find(STABLE) if state else None
    if state is None or stable is None:
        raise UserError(f"endpoint {endpoint.name}: serves nothing, so that there is nothing to roll back")
    history = read_history(calls, endpoint.name)
    served = next((model for model in history if model.name == stable.model), None)
    if served is None:
        raise UserError(f"endpoint {endpoint.name}: serves {stable.model}, which pipeline.aws did not make")
    before = [model for model in history if model.version < served.version and not model.rolled_back]
    if to is not None:
        target = _find_named(endpoint.name, history, served, to)
    elif state.find(CANARY):
        target = served
    else:
        others = [model for model in before if not same_model(model.url, served.url)]
        if not others:
            raise UserError(
                f"endpoint {endpoint.name}: {describe_model(endpoint.name, served.name)} is the only model that it"
                " served; nothing would be left; deploy another one first"
            )
        target = others[0]
    canary = state.find(CANARY)
    leaving = [
        model
        for model in history
        if model.version > target.version or (canary and model.name == canary.model and model.name != target.name)
    ]
    return Plan(state, target, tuple(model for model in leaving if not model.rolled_back))


def _find_named(endpoint: str, history: list[PastModel], served: PastModel, to: int) -> PastModel:
    """Returns the model of a version.

    Raises:
        UserError: there is none, or it is no earlier one.
    """
    found = [served] if served.version == to else [model for model in history if model.version == to]
    if not found:
        known = ", ".join(str(model.version) for model in history)
        raise UserError(f"--to {to}: was not served by endpoint {endpoint}; it has {known}")
    if to > served.version:
        raise UserError(f"--to {to}: is newer than version {served.version}, which serves; deploy it")
    if found[0].rolled_back:
        raise UserError(f"--to {to}: was rolled back itself ({found[0].rolled_back}); deploy it, if it is to serve")
    return found[0]


def run_rollback(calls: Calls, endpoint: Endpoint, plan: Plan, why: Rollback) -> None:
    """Does it, and returns when the earlier version serves alone.

    A canary gets no request any more at once; then come the marks, and last the endpoint's change, which takes minutes.
    What is done already is not done again.

    Raises:
        UserError | Fault: it was not done, or not to its end; started again it goes on.
    """
    stable, canary = plan.state.find(STABLE), plan.state.find(CANARY)
    assert stable is not None  # `plan_rollback` looked.
    if canary and canary.weight and stable.model == plan.to.name:
        endpoint.weigh({STABLE: stable.weight or 100.0, CANARY: 0.0}, plan.state)
    for model in plan.leaving:
        tag = {"Key": ROLLED_BACK_TAG, "Value": describe_rollback(why)}
        calls.call("sagemaker", "add_tags", ResourceArn=model.arn, Tags=[tag])
    if canary is None and stable.model == plan.to.name:
        return
    made = Made()
    variants = [{**stable.kept(), "ModelName": plan.to.name, "InitialVariantWeight": 100.0}]
    try:
        change(calls, endpoint, plan.state, variants, [], made)
    except UnderWay:
        raise
    except (UserError, Fault) as error:
        raise made.take_back(error) from error


def describe_rollback(why: Rollback) -> str:
    """Returns the mark of a rollback, in the letters that a tag may have."""
    return re.sub(r"[^\w .:/=+@-]", "_", why.describe())[: TAG_VALUE.most]
