"""An endpoint: what it serves, what is under way, and one change at a time, followed to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.errors import Fault, UserError
from pipeline.sagemaker.calls import Calls, find
from pipeline.sagemaker.resources import check_ours, parse_model

STABLE, CANARY = "stable", "canary"
"""The variants: SageMaker wants a new configuration's variants to have the old one's names."""

SPEC_KEYS = (
    "VariantName",
    "ModelName",
    "InstanceType",
    "InitialInstanceCount",
    "ContainerStartupHealthCheckTimeoutInSeconds",
    "ServerlessConfig",
)
"""What this command says of a variant, beside its weight."""

POLL_SECONDS = 10.0
LOOKS = 3
"""How often it is looked whether a change was taken whose answer did not come."""
_UNDER_WAY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")

Tell = Callable[[str], None]


class UnderWay(Fault):
    """A change goes on, and how it ends is not known: nothing may be taken back."""


@dataclass(frozen=True)
class Variant:
    """One model of an endpoint.

    Attributes:
        name: `stable` or `canary`.
        spec: as it was configured, but for its weight.
        weight: of the requests it gets this share of the sum of all weights.
        instances: as they are now; None of a serverless one.
    """

    name: str
    spec: dict[str, Any]
    weight: float
    instances: int | None

    @property
    def model(self) -> str:
        """The name of its SageMaker model."""
        return str(self.spec["ModelName"])

    @property
    def is_serverless(self) -> bool:
        """Whether it has no instances."""
        return "ServerlessConfig" in self.spec

    def kept(self) -> dict[str, Any]:
        """Returns its spec with as many instances as it has now: who scales it may have given it more."""
        return {**self.spec, "InitialInstanceCount": self.instances} if self.instances else self.spec


@dataclass(frozen=True)
class State:
    """An endpoint as it is.

    Attributes:
        status: SageMaker's: `InService`, `Failed`, ...
        config: its configuration's name.
        reason: why something failed; else empty.
        pending: the configuration that it is changed to; else empty.
        variants: that serve.
    """

    status: str
    config: str
    reason: str
    pending: str
    variants: tuple[Variant, ...]

    def find(self, name: str) -> Variant | None:
        """Returns the variant of a name."""
        return next((variant for variant in self.variants if variant.name == name), None)


@dataclass
class Endpoint:
    """An endpoint of this command.

    Attributes:
        calls: to AWS.
        name: of the endpoint.
        wait_minutes: how long a change is followed.
        tell: for the screen.
    """

    calls: Calls
    name: str
    wait_minutes: float
    tell: Tell

    def look(self) -> State | None:
        """Returns it as it is, or None where it is not there.

        Raises:
            UserError: this command did not make it.
        """
        answer = find(self.calls, "sagemaker", "describe_endpoint", EndpointName=self.name)
        if answer is None:
            return None
        check_ours(self.name, answer["EndpointConfigName"])
        config = find(
            self.calls,
            "sagemaker",
            "describe_endpoint_config",
            EndpointConfigName=answer["EndpointConfigName"],
        )
        specs = {spec["VariantName"]: spec for spec in (config or {}).get("ProductionVariants", ())}
        variants = tuple(
            _read_variant(specs[live["VariantName"]], live)
            for live in answer.get("ProductionVariants", ())
            if live["VariantName"] in specs
        )
        return State(
            status=answer["EndpointStatus"],
            config=answer["EndpointConfigName"],
            reason=" ".join(str(answer.get("FailureReason") or "").split()),
            pending=str((answer.get("PendingDeploymentSummary") or {}).get("EndpointConfigName") or ""),
            variants=variants,
        )

    def settle(self) -> State | None:
        """Returns it once nothing is under way any more, or None where it is not there.

        Raises:
            UnderWay: it takes longer than is waited, or cannot be asked meanwhile.
        """
        deadline, told = time.monotonic() + self.wait_minutes * 60, ""
        while (state := self.look()) is not None and state.status in _UNDER_WAY:
            if state.status != told:
                told = state.status
                self.tell(f"endpoint {self.name}: {told} ...")
            if time.monotonic() >= deadline:
                raise UnderWay(
                    f"endpoint {self.name}: still {told} after {self.wait_minutes:g} minutes; it goes on: look with"
                    " status, and run the command again to go on from there"
                )
            time.sleep(POLL_SECONDS)
        return state

    def follow(self) -> State | None:
        """Does as `settle`, after a change was sent: whatever fails now leaves its end unknown."""
        try:
            return self.settle()
        except UnderWay:
            raise
        except (UserError, Fault) as error:
            raise UnderWay(
                f"{error}: a change of endpoint {self.name} is under way and was not followed to its end; run the"
                " command again to go on from there"
            ) from error

    def create(self, config: str, tags: list[dict[str, str]]) -> None:
        """Makes it, and returns when it serves.

        Raises:
            Fault: it came up and failed; it is there as `Failed`, and serves nothing.
            UserError | Fault: it was not made.
        """
        arguments = {"EndpointName": self.name, "EndpointConfigName": config, "Tags": tags}
        self._send(config, "create_endpoint", **arguments)
        state = self.follow()
        if state is None or state.status != "InService":
            reason = state.reason if state else "it is not there"
            raise Fault(f"endpoint {self.name}: could not be made: {reason or 'SageMaker says no reason'}")

    def update(self, config: str) -> None:
        """Changes it to another configuration, and returns when that serves; until then the old one does.

        Raises:
            Fault: SageMaker went back to the old one.
            UserError | Fault: the change was not taken.
        """
        self._send(config, "update_endpoint", EndpointName=self.name, EndpointConfigName=config)
        state = self.follow()
        if state is not None and (state.status, state.config) == ("InService", config):
            return
        if state is not None and state.status in ("UpdateRollbackFailed", "Failed"):
            raise UnderWay(
                f"endpoint {self.name}: is {state.status}: {state.reason or 'SageMaker says no reason'}; nothing was"
                " taken back: see the endpoint's page in the console"
            )
        reason = state.reason if state else "it is not there any more"
        raise Fault(
            f"endpoint {self.name}: the change failed, and what served before still serves: "
            f"{reason or 'SageMaker says no reason'}"
        )

    def weigh(self, weights: dict[str, float]) -> None:
        """Changes the shares of the requests, in seconds and with the same instances.

        Raises:
            UserError | Fault: it was not changed.
        """
        desired = [{"VariantName": name, "DesiredWeight": weight} for name, weight in sorted(weights.items())]
        try:
            self.calls.call(
                "sagemaker",
                "update_endpoint_weights_and_capacities",
                EndpointName=self.name,
                DesiredWeightsAndCapacities=desired,
            )
        except (UserError, Fault):
            if not self._has(weights):
                raise
        if not self._has(weights):
            raise Fault(f"endpoint {self.name}: its weights did not become {weights}; look with status")

    def delete(self) -> None:
        """Deletes it, and returns when it is gone."""
        find(self.calls, "sagemaker", "delete_endpoint", EndpointName=self.name)
        if self.follow() is not None:
            raise Fault(f"endpoint {self.name}: is still there; run the command again")

    def _has(self, weights: dict[str, float]) -> bool:
        state = self.follow()
        return state is not None and {one.name: one.weight for one in state.variants} == weights

    def _send(self, config: str, operation: str, **arguments: Any) -> None:
        """Sends a change; where that fails, looks whether it was taken: its answer may have been lost.

        Raises:
            UnderWay: whether it was taken cannot be told.
            UserError | Fault: it was not taken.
        """
        try:
            self.calls.call("sagemaker", operation, **arguments)
        except (UserError, Fault) as error:
            # What was refused, was; after anything else SageMaker may show only later that it was taken.
            for _ in range(1 if isinstance(error, UserError) else LOOKS):
                try:
                    answer = find(self.calls, "sagemaker", "describe_endpoint", EndpointName=self.name) or {}
                except (UserError, Fault):
                    raise UnderWay(
                        f"{error}: whether endpoint {self.name} is being changed cannot be told; run the command again"
                    ) from error
                pending = (answer.get("PendingDeploymentSummary") or {}).get("EndpointConfigName")
                if config in (pending, answer.get("EndpointConfigName")):
                    return
                if isinstance(error, Fault):
                    time.sleep(POLL_SECONDS)
            raise


def _read_variant(configured: dict[str, Any], live: dict[str, Any]) -> Variant:
    """Returns a variant of its configuration and of how it is now."""
    spec = {key: configured[key] for key in SPEC_KEYS if key in configured}
    instances = int(live.get("DesiredInstanceCount") or live.get("CurrentInstanceCount") or 0)
    weight = live.get("DesiredWeight", live.get("CurrentWeight", 0.0))
    return Variant(spec["VariantName"], spec, float(weight), instances if "InstanceType" in spec else None)


def describe_model(endpoint: str, name: str) -> str:
    """Returns `version N`, or the name of a model that is not ours."""
    model = parse_model(endpoint, name)
    return f"version {model.version}" if model else name
