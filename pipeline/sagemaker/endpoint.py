"""An endpoint: what it serves, what is under way, and one change at a time, followed to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.errors import Fault, UserError
from pipeline.sagemaker.calls import Calls, find
from pipeline.sagemaker.endpoint_state import State, read_variant
from pipeline.sagemaker.resources import check_ours, parse_model

POLL_SECONDS = 10.0
LOOKS = 3
"""How often it is looked whether a change was taken whose answer did not come."""
_UNDER_WAY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")

Tell = Callable[[str], None]


class UnderWay(Fault):
    """A change goes on, and how it ends is not known: nothing may be taken back."""


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
            read_variant(specs[live["VariantName"]], live)
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

    def check_unchanged(self, before: State, config: str = "") -> None:
        """Looks whether it is what a change was planned for, right before that is sent: SageMaker asks for nothing.

        Args:
            before: as it was, with nothing under way.
            config: that it is to be changed to; another command may have begun with the very same change.

        Raises:
            UserError: another command changed it since, or is about to.
        """
        now = self.look()
        if now and config and config in (now.config, now.pending):
            return
        if now is None or (now.status, now.config) != (before.status, before.config):
            raise self._refuse(now.status if now else "", was_there=True)

    def settle(self, config: str = "") -> State | None:
        """Returns it once nothing is under way any more, or None where it is not there.

        Args:
            config: of the change that is followed; another one that is under way is not waited for.

        Raises:
            UnderWay: it takes longer than is waited, or cannot be asked meanwhile.
        """
        deadline, told = time.monotonic() + self.wait_minutes * 60, ""
        while (state := self.look()) is not None and state.status in _UNDER_WAY:
            if config and state.pending not in ("", config):
                break
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

    def follow(self, config: str = "") -> State | None:
        """Does as `settle`, after a change was sent: whatever fails now leaves its end unknown."""
        try:
            return self.settle(config)
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

    def update(self, config: str, before: State) -> None:
        """Changes it to another configuration, and returns when that serves; until then the old one does.

        Raises:
            Fault: SageMaker went back to the old one.
            UnderWay: another command changed it again.
            UserError | Fault: the change was not taken.
        """
        self.check_unchanged(before, config)
        self._send(config, "update_endpoint", EndpointName=self.name, EndpointConfigName=config)
        state = self.follow(config)
        if state is None:
            raise Fault(f"endpoint {self.name}: another command removed it meanwhile")
        if state.config == config and state.status in ("InService", "Updating"):  # Updating: to another's.
            return
        if state.config not in (config, before.config):
            raise UnderWay(
                f"endpoint {self.name}: another command has changed it again since; nothing was taken back: look with"
                " status"
            )
        if state.status in ("UpdateRollbackFailed", "Failed"):
            raise UnderWay(
                f"endpoint {self.name}: is {state.status}: {state.reason or 'SageMaker says no reason'}; nothing was"
                " taken back: see the endpoint's page in the console"
            )
        raise Fault(
            f"endpoint {self.name}: the change failed, and what served before still serves: "
            f"{state.reason or 'SageMaker says no reason'}"
        )

    def weigh(self, weights: dict[str, float], before: State) -> None:
        """Changes the shares of the requests, in seconds and with the same instances.

        Raises:
            UserError | Fault: it was not changed.
        """
        self.check_unchanged(before)
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
        creates = operation == "create_endpoint"
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
                elif (status := answer.get("EndpointStatus")) and (creates or status in _UNDER_WAY):
                    raise self._refuse(status, was_there=not creates) from error
            raise

    def _refuse(self, status: str, *, was_there: bool) -> UserError:
        """Returns what is told where another command was first; `status` is empty where it is not there now."""
        done = "changed it" if was_there else "made it"
        done = "removed it" if not status else "is changing it" if status in _UNDER_WAY and was_there else done
        return UserError(
            f"endpoint {self.name}: another command {done} meanwhile, and what that did stays; run this one again to go"
            " on from there"
        )


def describe_model(endpoint: str, name: str) -> str:
    """Returns `version N`, or the name of a model that is not ours."""
    model = parse_model(endpoint, name)
    return f"version {model.version}" if model else name
