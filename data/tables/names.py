"""How files are called that hold tables."""

import re
from collections.abc import Iterable

TABLE_NAME = re.compile(r"\.(csv|tsv|jsonl|ndjson|json|manifest|parquet)$", re.IGNORECASE)


def find_tables(names: Iterable[str]) -> list[str]:
    """Returns those of a folder's names that are tables; `.json` is more often something else."""
    return [name for name in names if TABLE_NAME.search(name) and not name.lower().endswith(".json")]
