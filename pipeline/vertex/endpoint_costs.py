"""What an endpoint costs once a run is over: it answers, and is paid for, until somebody takes it off."""

from pipeline.vertex.costs import PriceFile
from pipeline.vertex.settings import VertexSettings

HOURS_OF_A_MONTH = 730


def describe_endpoint(settings: VertexSettings, prices: PriceFile | None) -> str:
    """Returns a line on the machines of the endpoint that a run pushes to, with their price where it is known.

    A canary's model is one more beside the one that keeps the rest.

    Args:
        settings: with an endpoint.
        prices: the user's own, of the region.
    """
    endpoint = settings.endpoint
    models = 2 if endpoint.traffic_percent < 100 else 1
    least, most = endpoint.min_replicas * models, endpoint.max_replicas * models
    gpus = f" with {endpoint.accelerator_count} x {endpoint.accelerator_type}" if endpoint.accelerator_type else ""
    count = f"{least}" if least == most else f"{least} to {most}"
    line = (
        f"machines of endpoint {endpoint.name}, from the push on, without end: {count} x {endpoint.machine_type}{gpus}"
    )
    if prices is None:
        return line
    wanted = {endpoint.machine_type: 1.0}
    if endpoint.accelerator_type:
        wanted[endpoint.accelerator_type] = float(endpoint.accelerator_count)
    if missing := [item for item in wanted if item not in prices.endpoint]:
        return f"{line}; the price file has no {', '.join(f'endpoint.{item}' for item in missing)}"
    month = sum(prices.endpoint[item] * number for item, number in wanted.items()) * HOURS_OF_A_MONTH
    told = f"{least * month:.2f}" if least == most else f"{least * month:.2f} to {most * month:.2f}"
    return f"{line}; {told} {prices.currency} in a month, which is not in --max-cost"
