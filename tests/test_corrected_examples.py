"""ImageExampleGen with corrected labels: what the examples, the statistics and the summary hold."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.image_example_gen.component import ImageExampleGen
from components.image_example_gen.executor import ImageExampleGenExecutor
from data.corrections import REMOVE, Correction
from data.corrections_file import corrected_fingerprint, write_corrections
from data.errors import UserError
from data.features import CONTENT_HASH_KEY, LABEL_KEY, SPLITS
from data.image_figures import read_image_figures
from data.image_statistics import SCALES, measure_picture, read_image_statistics
from data.picture import picture_of
from data.settings import DataSettings
from data.sources import make_source
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from tests.images import make_image_tree


def run_in(folder: Path, **settings: Any) -> Any:
    data_settings = DataSettings(source="image_folder", path=str(folder / "images"), **settings)
    fingerprint = corrected_fingerprint(make_source(data_settings).fingerprint(), data_settings.corrections)
    component = ImageExampleGen(data_settings, fingerprint, code_hash="code")
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder / f"examples-{len(os.listdir(folder))}")
    os.makedirs(artifact.uri)
    context = ImageExampleGenExecutor.Context(
        beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=str(folder / "tmp"), unique_id="1"
    )
    ImageExampleGenExecutor(context).Do({}, {"examples": [artifact]}, dict(component.exec_properties))
    return artifact


def read_labels(artifact: Any) -> dict[str, tuple[str, str]]:
    """Returns content hash -> split and label."""
    found = {}
    for split in SPLITS:
        pattern = os.path.join(artifact_utils.get_split_uri([artifact], split), "*")
        for record in tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            sha256, label = (feature[key].bytes_list.value[0].decode() for key in (CONTENT_HASH_KEY, LABEL_KEY))
            found[sha256] = split, label
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_image_tree(tmp_path / "images", ["cat", "dog"], per_class=30, size=8)
    return tmp_path


def hashes_of(folder: Path, name: str) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "images" / name).iterdir())]


def test_examples_hold_the_corrected_labels(folder: Path) -> None:
    cats = hashes_of(folder, "cat")
    before = read_labels(run_in(folder))
    wrong, removed = (next(one for one in cats if before[one][0] == split) for split in ("test", "train"))
    corrections = {
        wrong: Correction(wrong, "dog", "cat"),
        removed: Correction(removed, REMOVE, "cat"),
        "0" * 64: Correction("0" * 64, "dog", "cat"),
    }
    path = folder / "corrections.csv"
    write_corrections(corrections, str(path))
    artifact = run_in(folder, corrections=str(path))
    after = read_labels(artifact)
    assert after == {**{one: where for one, where in before.items() if one != removed}, wrong: ("test", "dog")}
    statistics = read_image_statistics(artifact.uri)
    assert statistics is not None
    dogs = sum(label == "dog" for split, label in after.values() if split == "test")
    assert statistics["test"].labels["dog"] == dogs
    summary = json.loads(Path(artifact.uri, "data_summary.json").read_text(encoding="utf-8"))
    assert summary["counts"]["test"]["dog"] == dogs
    assert summary["corrections"] == {
        "corrected": {"train": 0, "eval": 0, "test": 1},
        "removed": {"train": 1, "eval": 0, "test": 0},
        "already": 0,
        "not_found": 1,
        "not_found_first": ["0" * 64],
    }
    assert Path(artifact.uri, "corrections.csv").read_bytes() == path.read_bytes()


def test_a_correction_that_no_longer_fits_stops_the_run_in_one_line(folder: Path) -> None:
    (first, *_) = hashes_of(folder, "cat")
    write_corrections({first: Correction(first, "cat", "dog")}, str(folder / "c.csv"))
    run_in(folder, corrections=str(folder / "c.csv"))  # right already
    write_corrections({first: Correction(first, REMOVE, "dog")}, str(folder / "c.csv"))
    with pytest.raises(UserError, match=r"^data.corrections: .*c.csv: cat/.* is labelled 'cat' now, not 'dog'"):
        run_in(folder, corrections=str(folder / "c.csv"))


def test_the_figures_of_each_image_are_kept_by_its_content(folder: Path) -> None:
    artifact = run_in(folder)
    path = next((folder / "images" / "dog").iterdir())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found = read_image_figures(artifact.uri, [sha256, "f" * 64])
    assert found is not None
    wanted = measure_picture(picture_of(path.read_bytes(), least_side=0))
    np.testing.assert_allclose([found[name][0] for name in SCALES], wanted, rtol=1e-6)
    assert all(np.isnan(values[1]) for values in found.values())
