"""An endpoint as it is: its status, its configuration and the variants that serve."""

from dataclasses import dataclass
from typing import Any

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


def read_variant(configured: dict[str, Any], live: dict[str, Any]) -> Variant:
    """Returns a variant of its configuration and of how it is now."""
    spec = {key: configured[key] for key in SPEC_KEYS if key in configured}
    instances = int(live.get("DesiredInstanceCount") or live.get("CurrentInstanceCount") or 0)
    weight = live.get("DesiredWeight", live.get("CurrentWeight", 0.0))
    return Variant(spec["VariantName"], spec, float(weight), instances if "InstanceType" in spec else None)
