"""Weights and groups go through Transform to the Trainer, whatever the schema knows, and serving asks for neither."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.inputs import open_split
from components.trainer.transform_graph import TransformGraph
from components.transform.features import TRANSFORMED_IMAGE_KEY, TRANSFORMED_LABEL_KEY, unpack_images
from data.features import IMAGE_KEY, LABEL_KEY
from tests.images import make_png
from tests.transform_run import make_example, run_transform

GROUPS = ["p1", "p2", "p1", "p3"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weighted")
    images = {split: [(make_png(), label) for label in "abab"] for split in ("train", "eval", "test")}
    run_transform(root, images, {"image_size": 32}, extras_of=lambda _, number: (1.5 + number, GROUPS[number]))
    return root


def test_the_trainer_reads_weights_and_groups(root: Path) -> None:
    for split_name in ("train", "eval"):
        split = open_split([str(root / "transformed" / f"Split-{split_name}" / "*")], 32, 4)
        assert split.extras.weights is not None
        assert split.extras.groups is not None
        order = (split.extras.weights - 1.5).astype(int)
        assert sorted(order) == [0, 1, 2, 3]
        by_number = dict(zip(order.tolist(), split.extras.groups.tolist(), strict=True))
        assert by_number[0] == by_number[2]
        assert len({by_number[number] for number in (0, 1, 3)}) == 3
        assert min(by_number.values()) >= 0


def test_the_schema_of_others_is_not_touched(root: Path) -> None:
    assert "weight" not in (root / "schema" / "schema.pbtxt").read_text()
    output = tft.TFTransformOutput(str(root / "graph"))
    assert {"weight", "group"} < output.raw_feature_spec().keys()


def test_serving_asks_for_neither(root: Path) -> None:
    graph = TransformGraph(tft.TFTransformOutput(str(root / "graph")))
    bare = tf.constant([make_example(make_png(), "b", "x")])
    transformed = graph.apply(graph.parse(bare, [IMAGE_KEY]))
    assert unpack_images(transformed[TRANSFORMED_IMAGE_KEY], 32).shape == [1, 32, 32, 3]
    labels = graph.apply(graph.parse(bare, [IMAGE_KEY, LABEL_KEY]))[TRANSFORMED_LABEL_KEY]
    np.testing.assert_array_equal(labels, [1])
    layer = tft.TFTransformOutput(str(root / "graph")).transform_features_layer()
    found = layer({IMAGE_KEY: tf.constant([[make_png()]])})[TRANSFORMED_IMAGE_KEY]
    np.testing.assert_array_equal(found, transformed[TRANSFORMED_IMAGE_KEY])
