"""What the model learned from: counts, sizes, what was left out, what looked odd. Read from the artifacts."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from tfx.types import standard_component_specs as specs

from components.image_example_gen import QUARANTINE_FILE, SUMMARY_FILE
from data.features import HEIGHT_KEY, SPLITS, WIDTH_KEY
from data.groups import describe_groups
from data.json_files import find_json
from data.spans import describe_spans


def make_data_facts(uris: Mapping[str, str]) -> dict[str, Any] | None:
    """Collects the facts of the data, or None without examples.

    Args:
        uris: the folders of what there is of `examples`, `statistics` and `anomalies`.

    Returns:
        `counts`: split to class to images; `sizes`: split to the least, mean and greatest height and width in pixels;
        `told`: sentences on spans, groups and weights; `quarantine`: files and reasons of `quarantined`; `anomalies`: a
        line each, None if unknown.
    """
    examples = uris.get(specs.EXAMPLES_KEY)
    if examples is None or (facts := find_json(os.path.join(examples, SUMMARY_FILE))) is None:
        return None
    with tf.io.gfile.GFile(os.path.join(examples, QUARANTINE_FILE), "rb") as file:
        # Not splitlines: file names may hold what it takes for line ends, such as U+2028.
        quarantine = [json.loads(line) for line in file.read().decode().split("\n") if line]
    return {
        **facts,
        "told": list(_tell(facts)),
        "splits": [split for split in SPLITS if split in facts["counts"]],
        "quarantine": quarantine,
        "sizes": _sizes(uris[specs.STATISTICS_KEY]) if specs.STATISTICS_KEY in uris else {},
        "anomalies": _anomalies(uris[specs.ANOMALIES_KEY]) if specs.ANOMALIES_KEY in uris else None,
    }


def _tell(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence on each of spans, groups and weights that the data set has."""
    if spans := describe_spans(facts.get("spans", [])):
        yield f"Spans: {spans}."
    if groups := describe_groups(facts.get("groups")):
        yield f"Groups: {groups}."
    if facts.get("weighted"):
        yield "Images weigh differently in training, and alike where they judge."


def _sizes(statistics_uri: str) -> dict[str, dict[str, dict[str, float]]]:
    """Reads StatisticsGen's figures of the images' sides."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    sizes: dict[str, dict[str, dict[str, float]]] = {}
    for split in SPLITS:
        path = os.path.join(statistics_uri, f"Split-{split}", "FeatureStats.pb")
        if not tf.io.gfile.exists(path):
            continue
        with tf.io.gfile.GFile(path, "rb") as file:
            statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read())
        for feature in statistics.datasets[0].features:
            name = feature.name or ".".join(feature.path.step)
            if name in (HEIGHT_KEY, WIDTH_KEY) and feature.HasField("num_stats"):
                numbers = feature.num_stats
                sizes.setdefault(split, {})[name] = {
                    "min": numbers.min,
                    "median": numbers.median,
                    "max": numbers.max,
                }
    return sizes


def _anomalies(anomalies_uri: str) -> list[str]:
    """Returns a line per feature and split whose statistics do not fit the schema."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    found = []
    for split in SPLITS:
        path = os.path.join(anomalies_uri, f"Split-{split}", "SchemaDiff.pb")
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                anomalies = anomalies_pb2.Anomalies.FromString(file.read())
            found += [f"{split}: {name}: {info.description}" for name, info in sorted(anomalies.anomaly_info.items())]
    return found
