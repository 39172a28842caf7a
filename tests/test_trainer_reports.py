"""What TensorBoard shows of a training."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.util import event_pb2

from components.trainer.learner import Judge
from components.trainer.phases import EpochResult, Phase
from components.trainer.reports import TensorBoard
from tests.tiny_training import make_model, make_points

RESULT = EpochResult("head", 1, 0.5, 0.75, 0.25, 0.875, 0.01, 1.0)


def read_events(folder: Path) -> dict[str, np.ndarray]:
    values = {}
    for path in folder.glob("events.out.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            for value in event_pb2.Event.FromString(record.numpy()).summary.value:
                values[value.tag] = tf.make_ndarray(value.tensor)
    return values


def test_an_epoch_is_scalars_and_a_confusion_matrix(tmp_path: Path) -> None:
    TensorBoard(str(tmp_path)).write(RESULT, np.array([[3.0, 1.0], [0.0, 2.0]]))
    train, validation = (read_events(tmp_path / "head" / split) for split in ("train", "validation"))
    assert {tag: float(value) for tag, value in train.items()} == {
        "epoch_loss": 0.5,
        "epoch_accuracy": 0.75,
        "epoch_learning_rate": np.float32(0.01),
    }
    assert (validation["epoch_loss"], validation["epoch_accuracy"]) == (0.25, 0.875)
    shown = tf.io.decode_png(validation["confusion_matrix"][2])[::150, ::150, 0].numpy().astype(int)
    np.testing.assert_allclose(shown, [[191, 64], [0, 255]], atol=1)


def test_augmented_images_are_shown(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    board = TensorBoard(str(tmp_path))
    board.write_images(Phase("head", 1, 0.1, 0), images)
    board.write(RESULT)
    shown = read_events(tmp_path / "head" / "train")["augmented"]
    assert len(shown) == 2 + 16  # width and height come first
    np.testing.assert_array_equal(tf.io.decode_png(shown[2]), images[0])


def test_the_confusion_matrix_counts_each_example_once() -> None:
    model, points = make_model(), make_points(count=41)
    judge = Judge(model)
    judged = judge.evaluate(points.in_order())
    assert judged is not None
    assert judge.confusion is not None
    expected = np.zeros([2, 2])
    for label, answer in zip(points.labels, np.argmax(model(points._inputs), -1), strict=True):
        expected[label, answer] += 1
    np.testing.assert_array_equal(judge.confusion, expected)
    assert judged[1] == np.float32(np.trace(expected)) / 41
