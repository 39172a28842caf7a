"""Settings of the serving_validator section: how the exported model is tried before it is pushed."""

from pydantic import Field

from data.section import Settings


class ServingValidatorSettings(Settings):
    """How much of the export is tried, and what it must keep to be pushed."""

    images: int = Field(default=36, ge=1, le=10_000)
    """How many images of `test` are sent, in batches of 1, 2 and 33; with fewer in `test` they are sent again."""

    tolerance: float = Field(default=1e-4, gt=0, lt=1)
    """How far a served probability may be from the one computed apart. Both are float32 with the same weights, and only
    the order of sums differs: at most 2e-7 was measured on digits; with the mean not subtracted it was 0.93."""

    max_latency_p95_ms: float | None = Field(default=None, gt=0)
    """The longest that 95 % of requests with one image may take, in milliseconds on this machine's CPU, the network
    not counted; null: any."""

    max_model_mb: float | None = Field(default=None, gt=0)
    """The largest that the SavedModel may be, in megabytes of 1,000,000 bytes; null: any."""
