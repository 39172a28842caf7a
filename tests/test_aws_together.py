"""Two people deploy to one endpoint of SageMaker at a time: one of them may be refused, and nobody loses a version."""

from collections.abc import Callable
from typing import Any

import pytest

from data.errors import UserError
from pipeline.sagemaker.archive import PushedModel
from pipeline.sagemaker.calls import Aws
from pipeline.sagemaker.deployment import deploy
from pipeline.sagemaker.endpoint import UnderWay
from tests import test_aws_faults
from tests.sagemaker_stand_in import StandIn
from tests.test_aws_faults import Checkpoint, act, make_settings, told_of

Deployment = tuple[dict[str, Any], int]


world, models = test_aws_faults.world, test_aws_faults.models


class Interrupted:
    """Sends calls, and lets somebody else act right before one of them."""

    def __init__(self, aws: Aws, number: int, other: Callable[[], None]) -> None:
        self.aws, self.number, self.other, self.sent = aws, number, other, 0

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.sent += 1
        if self.sent == self.number:
            self.other()
        return self.aws.call(service, operation, **arguments)


WHOLE: dict[str, Any] = {}
CANARY, OTHER_MACHINE = {"traffic_percent": 10}, {"instance_type": "ml.c5.xlarge"}
CASES = [
    (0, (CANARY, 1), (WHOLE, 2)),
    (None, (WHOLE, 1), (OTHER_MACHINE, 1)),
    (None, (WHOLE, 1), (WHOLE, 2)),
    (0, (WHOLE, 1), (WHOLE, 2)),
    (0, (WHOLE, 1), (OTHER_MACHINE, 1)),
    (0, (WHOLE, 1), (WHOLE, 1)),
    (0, (WHOLE, 1), (CANARY, 2)),
    (0, (CANARY, 1), (CANARY, 2)),
]
"""Index of the model that serves before, if any; changed settings and index of the one that I deploy, and the other."""


@pytest.mark.parametrize(
    ("case", "ends", "step"),
    [
        *((case, True, 2) for case in CASES[:2]),
        *(pytest.param(case, ends, 1, marks=pytest.mark.slow) for case in CASES for ends in (True, False)),
    ],
)
def test_whenever_another_deploys_one_line_says_so_and_no_version_is_lost(
    world: tuple[StandIn, Aws],
    models: list[PushedModel],
    case: tuple[int | None, Deployment, Deployment],
    ends: bool,
    step: int,
) -> None:
    services, aws = world
    before, mine, other = case
    services.reset()
    if before is not None:
        assert act(aws, make_settings(), models[before]) is None
    begin = Checkpoint(services)
    settings, model = make_settings(**mine[0]), models[mine[1]]
    others = make_settings(**other[0], **({} if ends else {"wait_minutes": 1e-9}))
    told: list[Exception | None] = []
    sent: list[bool] = []

    def act_too() -> None:
        seen = len(services.calls)
        told.append(act(aws, others, models[other[1]]))
        sent.append(any(call.endswith(("CreateEndpoint", "UpdateEndpoint")) for call in services.calls[seen:]))

    assert act(aws, make_settings(**other[0]), models[other[1]]) is None
    alone, alone_serving = services.kept(), services.serving("digits")
    endings = set()
    for number in range(1, 40, step):
        begin.restore(services, aws)
        told.clear()
        sent.clear()
        calls = Interrupted(aws, number, act_too)
        error = told_of(lambda: deploy(calls, settings, model, lambda line: None))  # noqa: B023
        if not told:
            break
        where = f"before call {number}: {error}; the other: {told[0]}"
        assert not services.wrong, (where, services.wrong)
        if isinstance(error, UserError):
            assert "another command" in str(error), where
            assert "run this one again" in str(error), where
        elif error is not None:
            assert isinstance(error, UnderWay), where
            assert "another command has changed it again" in str(error), where
        for failure in filter(None, told):
            assert "another command" in str(failure) or isinstance(failure, UnderWay), where
        # What the other has sent, it has: it ends as if it had been alone, or is followed by mine.
        services.hurry()
        endings.add(type(error).__name__)
        if isinstance(error, UserError) and told[0] is None:
            assert services.kept() == alone, where
            assert services.serving("digits") == alone_serving, where
        # Started again, it goes on from there, and both versions are known.
        again = act(aws, settings, model)
        assert again is None, (where, again)
        assert not services.wrong, (where, services.wrong)
        if sent[0] or told[0] is None:
            assert set(alone["models"]) <= set(services.kept()["models"]), where
        assert any(f"digits-{model.version}-" in name for name in services.serving("digits")), where
    assert number > 8
    assert {"NoneType", "UserError"} <= endings or mine == other
