"""What an endpoint serves, in lines for people."""

from collections.abc import Iterator

from pipeline.sagemaker.endpoint import Endpoint, describe_model
from pipeline.sagemaker.endpoint_state import Variant
from pipeline.sagemaker.resources import read_history


def describe_status(endpoint: Endpoint) -> Iterator[str]:
    """Yields the endpoint, its variants with their shares, and the versions that it served."""
    state = endpoint.look()
    if state is None:
        yield f"endpoint {endpoint.name}: is not there"
    else:
        pending = f", changing to {state.pending}" if state.pending and state.pending != state.config else ""
        yield f"endpoint {endpoint.name}: {state.status}, configuration {state.config}{pending}"
        if state.reason:
            yield f"  reason    {state.reason}"
        total = sum(variant.weight for variant in state.variants) or 1.0
        for variant in state.variants:
            yield (
                f"  {variant.name:<9} {describe_model(endpoint.name, variant.model)}"
                f"  {100 * variant.weight / total:.0f} % of the requests  {_describe_place(variant)}  {variant.model}"
            )
    live = {variant.model for variant in state.variants} if state else set()
    for model in read_history(endpoint.calls, endpoint.name):
        if model.name not in live:
            why = f"  rolled back {model.rolled_back}" if model.rolled_back else ""
            yield f"  before    version {model.version}  {model.name}{why}"


def _describe_place(variant: Variant) -> str:
    if serverless := variant.spec.get("ServerlessConfig"):
        return f"serverless, {serverless['MemorySizeInMB']} MB, {serverless['MaxConcurrency']} at a time"
    return f"{variant.instances or variant.spec.get('InitialInstanceCount')} x {variant.spec.get('InstanceType')}"
