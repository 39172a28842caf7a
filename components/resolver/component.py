"""The resolver node: which of the earlier models counts."""

from collections.abc import Mapping

from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types import BaseChannel, Channel, standard_artifacts


def make_resolver(strategy: type[ResolverStrategy], channels: Mapping[str, BaseChannel]) -> Resolver:
    """Returns a resolver among all models and their blessings.

    Args:
        strategy: chooses.
        channels: what it looks at besides, by its own keys.
    """
    return Resolver(
        strategy_class=strategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        **channels,
    )
