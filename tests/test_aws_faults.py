"""A deployment to SageMaker whose calls fail, each in each way: nothing is left, nothing doubled, no request lost."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from data.errors import Fault as CloudFault
from data.errors import UserError
from pipeline.config import parse_settings
from pipeline.sagemaker.archive import PushedModel
from pipeline.sagemaker.calls import Aws
from pipeline.sagemaker.deployment import deploy
from pipeline.sagemaker.endpoint import Endpoint, UnderWay
from pipeline.sagemaker.rollback import plan_rollback, run_rollback
from pipeline.sagemaker.settings import AwsSettings
from pipeline.sagemaker.transform import start_transform
from tests.sagemaker_stand_in import BASE, Fault, StandIn, make_version, on_stand_in

WRITES = ("Create", "Update", "Put", "Delete", "AddTags")
WORLDS = {"first": 100, "update": 100, "canary": 10}
"""What the endpoint is to give the new version; but for the first one, another version serves before."""


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[StandIn, Aws]]:
    with on_stand_in() as found:
        yield found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[PushedModel]:
    root = tmp_path_factory.mktemp("versions")
    return [make_version(root, number) for number in (1, 2, 3)]


def make_settings(**changes: Any) -> AwsSettings:
    return parse_settings(AwsSettings, {**BASE, **changes})


def act(aws: Aws, settings: AwsSettings, model: PushedModel) -> Exception | None:
    """Deploys, and returns what that raised."""
    return told_of(lambda: deploy(aws, settings, model, lambda line: None))


def told_of(act: Callable[[], Any]) -> Exception | None:
    """Returns what an act raised: nothing but what is told in one line."""
    told: Exception | None = None
    try:
        act()
    except (UserError, CloudFault) as error:
        told = error
    assert told is None or "\n" not in str(told)
    return told


class Checkpoint:
    """What is there at a moment, to go back to."""

    def __init__(self, services: StandIn) -> None:
        backend = services.backend
        self.kept = {
            name: copy.deepcopy(getattr(backend, name)) for name in ("endpoints", "endpoint_configs", "_models")
        }
        self.objects = services.objects()

    def restore(self, services: StandIn, aws: Aws) -> None:
        services.fault = None
        services.forget()
        for name, content in self.kept.items():
            setattr(services.backend, name, copy.deepcopy(content))
        for path in set(services.objects()) - set(self.objects):
            bucket, _, key = path.partition("/")
            aws.call("s3", "delete_object", Bucket=bucket, Key=key)
        assert services.objects() == self.objects
        services.calls.clear()
        services.wrong.clear()


def list_faults(calls: list[str], *, all_kinds: bool) -> Iterator[Fault]:
    """Yields faults of each call: lasting ones and passing ones, before and after what changes something.

    Args:
        calls: what came without a fault.
        all_kinds: whether each call meets each kind, or only what tells most.
    """
    for number, operation in enumerate(calls):
        changes = operation.partition(":")[2].startswith(WRITES)
        if not all_kinds:
            if changes:
                yield Fault("denied", number, after=True, lasts=True)
                yield Fault("timeout", number, after=True, lasts=False)
                yield Fault("timeout", number, after=True, lasts=True)
                yield Fault("quota", number, after=False, lasts=True)
            else:
                yield Fault(("denied", "timeout", "throttled")[number % 3], number, after=False, lasts=True)
            continue
        for after in (False, True) if changes else (False,):
            yield Fault("denied", number, after, lasts=True)
            yield Fault("timeout", number, after, lasts=True)
            yield Fault("timeout", number, after, lasts=False)
        if changes:
            yield Fault("quota", number, after=False, lasts=True)
            yield Fault("broken", number, after=False, lasts=False)
        yield Fault("throttled", number, after=False, lasts=not changes)


@pytest.mark.parametrize(
    ("case", "all_kinds"),
    [
        ("first", False),
        ("update", False),
        *(pytest.param(case, True, marks=pytest.mark.slow) for case in WORLDS),
    ],
)
def test_a_fault_of_any_call_leaves_nothing_and_the_next_try_ends_as_if_there_had_been_none(
    world: tuple[StandIn, Aws], models: list[PushedModel], case: str, all_kinds: bool
) -> None:
    services, aws = world
    services.reset()
    settings = make_settings(traffic_percent=WORLDS[case])
    served_before = {}
    if case != "first":
        assert act(aws, make_settings(), models[0]) is None
        served_before = services.serving("digits")
    before, kept_before = Checkpoint(services), services.kept()
    services.calls.clear()
    assert act(aws, settings, models[1]) is None
    clean, kept, serving = list(services.calls), services.kept(), services.serving("digits")
    assert {len(names) for names in kept.values()} == {1, 1 if case == "first" else 2}
    faults = list(list_faults(clean, all_kinds=all_kinds))
    endings = []
    for fault in faults:
        before.restore(services, aws)
        services.fault = fault
        where = f"{fault}"
        error = act(aws, settings, models[1])
        assert not services.wrong, (where, services.wrong)
        if error is None:
            assert (services.kept(), services.serving("digits")) == (kept, serving), where
        else:
            assert fault.lasts, (where, error)
            if not isinstance(error, UnderWay) and services.kept() not in (kept_before, kept):
                # Whether another command uses the model cannot be asked: it stays, and is named.
                assert fault.operation == "sagemaker:DescribeEndpointConfig", (where, error)
                assert "model digits-2-" in str(error), where
                assert "could not be removed" in str(error), where
            assert services.serving("digits") in (served_before, serving), where
        endings.append(type(error).__name__)
        services.fault = None
        assert act(aws, settings, models[1]) is None, where
        assert (services.kept(), services.serving("digits")) == (kept, serving), where
        assert not services.wrong, (where, services.wrong)
    assert {"NoneType", "UserError", "Fault", "UnderWay"} <= set(endings)  # Each kind of end was seen.


def test_a_model_that_does_not_come_up_takes_nothing_from_the_one_that_serves_and_leaves_nothing(
    world: tuple[StandIn, Aws], models: list[PushedModel]
) -> None:
    services, aws = world
    services.reset()
    services.failing.add("-1-")
    error = act(aws, make_settings(), models[0])
    assert "could not be made: The container of digits-1-" in str(error)
    assert not any(services.kept().values())
    services.failing = {"-2-"}
    assert act(aws, make_settings(), models[0]) is None
    kept, serving = services.kept(), services.serving("digits")
    for percent in (100, 10):
        error = act(aws, make_settings(traffic_percent=percent), models[1])
        assert "what served before still serves: The container of digits-2-" in str(error)
        assert (services.kept(), services.serving("digits"), services.wrong) == (kept, serving, [])


def test_an_archive_that_another_endpoint_took_meanwhile_stays(
    world: tuple[StandIn, Aws], models: list[PushedModel]
) -> None:
    services, aws = world
    services.reset()
    services.failing.add("digits-1-")
    others: list[Exception | None] = []

    def tell(line: str) -> None:
        if "Creating" in line and not others:
            others.append(act(aws, make_settings(endpoint="other"), models[0]))

    error = told_of(lambda: deploy(aws, make_settings(), models[0], tell))
    assert "could not be made: The container of digits-1-" in str(error)
    assert (others, services.wrong) == ([None], [])
    assert {kind: len(names) for kind, names in services.kept().items()} == dict.fromkeys(services.kept(), 1)


def test_an_endpoint_that_failed_before_is_made_anew_and_one_under_way_is_followed(
    world: tuple[StandIn, Aws], models: list[PushedModel]
) -> None:
    services, aws = world
    services.reset()
    assert act(aws, make_settings(), models[0]) is None
    services.backend.endpoints["digits"].endpoint_status = "Failed"
    assert act(aws, make_settings(), models[0]) is None
    assert services.calls.count("sagemaker:DeleteEndpoint") == 1
    # Killed after the change was sent: the next command waits for its end, and has nothing to do.
    kept_looks, services.looks = services.looks, 10**9
    settings = make_settings(wait_minutes=1e-9)
    assert isinstance(act(aws, settings, models[1]), UnderWay)
    services.looks = kept_looks
    services.hurry()
    services.calls.clear()
    assert act(aws, make_settings(), models[1]) is None
    assert "sagemaker:UpdateEndpoint" not in services.calls
    assert (list(services.serving("digits")), services.wrong) == ([services.kept()["models"][1]], [])


def run_faults(
    services: StandIn, faults: Iterator[Fault], restore: Callable[[], None], roll_back: Callable[[], Any]
) -> None:
    target = services.kept()["models"][0]
    for fault in faults:
        restore()
        services.fault = fault
        error = told_of(roll_back)
        assert error is None or fault.lasts, (fault, error)
        services.fault = None
        roll_back()
        assert (services.serving("digits"), services.wrong) == ({target: 100.0}, []), fault
        assert services.marked() == ["digits-2"], fault


@pytest.mark.parametrize(
    ("percent", "all_kinds"),
    [(10, False), *(pytest.param(percent, True, marks=pytest.mark.slow) for percent in (100, 10))],
)
def test_a_rollback_that_fails_anywhere_goes_on_when_it_is_started_again(
    world: tuple[StandIn, Aws], models: list[PushedModel], percent: int, all_kinds: bool
) -> None:
    from components.evaluator.rollback import Rollback

    services, aws = world
    services.reset()
    assert act(aws, make_settings(), models[0]) is None
    assert act(aws, make_settings(traffic_percent=percent), models[1]) is None
    before = Checkpoint(services)
    services.calls.clear()

    def roll_back() -> None:
        endpoint = Endpoint(aws, "digits", 60, lambda line: None)
        plan = plan_rollback(aws, endpoint, 1)
        if not plan.is_done:
            run_rollback(aws, endpoint, plan, Rollback("bad", "Anna", "2026-11-26T12:00:00+00:00"))

    roll_back()
    faults = list_faults(list(services.calls), all_kinds=all_kinds)
    run_faults(services, faults, lambda: before.restore(services, aws), roll_back)


@pytest.mark.slow
def test_a_transform_that_fails_anywhere_is_one_job_when_it_is_started_again(
    world: tuple[StandIn, Aws], models: list[PushedModel]
) -> None:
    services, aws = world
    services.reset()
    places = {"input": "s3://bucket/photos", "output": "s3://bucket/answers"}
    settings = make_settings(transform=places)
    aws.call("s3", "put_object", Bucket="bucket", Key="photos/a.jpg", Body=b"one")
    before, kept_before = Checkpoint(services), services.kept()
    services.looks = 10**9  # No job ends.

    def start() -> None:
        start_transform(aws, settings, models[0], lambda line: None)

    services.calls.clear()
    start()
    clean, kept, (job,) = list(services.calls), services.kept(), services.backend.transform_jobs
    for fault in list_faults(clean, all_kinds=True):
        services.backend.transform_jobs.clear()
        before.restore(services, aws)
        services.fault = fault
        error = told_of(start)
        if error is not None and not isinstance(error, UnderWay):
            assert fault.lasts, (fault, error)
            assert services.kept() in (kept_before, kept), (fault, error)
            assert not services.backend.transform_jobs, fault
        services.fault = None
        start()
        assert (services.kept(), list(services.backend.transform_jobs)) == (kept, [job]), fault
