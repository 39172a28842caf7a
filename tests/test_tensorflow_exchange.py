"""TensorFlow for TPUs and the pipeline's, which is newer, read each other's Transform graphs and exports.

`tests/py313.sh tpu` makes both environments and runs it.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.exported_model.signatures import SIGNATURES
from pipeline.locks import LOCKS
from tests import tensorflow_exchange as exchange

TPU_PYTHON = os.environ.get("TPU_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TPU_PYTHON, reason="TPU_PYTHON names no Python with the packages of the tpu image"),
]


def there(root: Path, *commands: str) -> None:
    """Runs commands of the exchange with the TPU's TensorFlow."""
    # Off a TPU libtpu would wait for a metadata server, and it takes the whole machine for one process.
    environment = os.environ | {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    command = [TPU_PYTHON, "-m", "tests.tensorflow_exchange", str(root), *commands]
    subprocess.run(command, cwd=LOCKS.parent, env=environment, check=True)


def compare(root: Path, *, exported_here: bool) -> None:
    mine, other = (dict(np.load(root / f"{name}.npz", allow_pickle=True)) for name in ("here", "there"))
    assert mine.pop("read_by") == tf.__version__ != other.pop("read_by")
    assert (mine["exported_by"] == tf.__version__) == exported_here
    assert mine.keys() == other.keys()
    answers = {f"{key}.{output}" for key, signature in SIGNATURES.items() for output in signature.outputs}
    others = {"exported_by", "weights.probabilities", "graph.image_xf", "graph.label_xf", "graph.image_fingerprint"}
    assert mine.keys() == answers | others
    for key, value in mine.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_a_trainer_on_a_tpu_reads_transforms_graph_and_the_pipeline_its_export(tmp_path: Path) -> None:
    exchange.transform(tmp_path)
    there(tmp_path, "export", "read:there")
    exchange.read(tmp_path, "here")
    compare(tmp_path, exported_here=False)


def test_a_trainer_on_a_tpu_reads_the_export_that_it_starts_from_and_writes_graphs_for_all(tmp_path: Path) -> None:
    there(tmp_path, "transform")
    exchange.export(tmp_path)
    exchange.read(tmp_path, "here")
    there(tmp_path, "read:there")
    compare(tmp_path, exported_here=True)
