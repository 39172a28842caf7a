"""How the report prints numbers: the same everywhere, and TFMA's to the last printed digit."""

from collections.abc import Sequence

DASH = "\N{EN DASH}"


def format_number(value: float | None) -> str:
    """Returns four decimals, or a dash where there is no value."""
    return DASH if value is None else f"{value:.4f}"


def format_change(value: float | None) -> str:
    """Returns four decimals with a sign."""
    return DASH if value is None else f"{value:+.4f}"


def format_interval(interval: Sequence[float] | None) -> str:
    """Returns `low to high`."""
    return DASH if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def format_change_interval(interval: Sequence[float] | None) -> str:
    """Returns `low to high` with signs."""
    return DASH if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def format_count(value: float | None) -> str:
    """Returns a whole number with thousands separators."""
    return DASH if value is None else f"{value:,.0f}"
