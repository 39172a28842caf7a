"""A source is its own file and its entry in the table, as CONTRIBUTING says: another one is added and run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.settings import DataSettings
from data.source_kinds import SOURCES

ROOT = Path(__file__).parent.parent
MODULE = '''
import hashlib
import io

import apache_beam as beam
import numpy as np
from PIL import Image

from data.files import stat_file
from data.settings import DataSettings
from data.sources.source import SourceImage


class ArraysSource:
    """`images`, uint8 [number, height, width, 3], and `labels` in one file of NumPy's."""

    def __init__(self, settings: DataSettings) -> None:
        self._path = settings.path

    @staticmethod
    def lies_at(path: str) -> bool:
        return path.endswith(".npz")

    def fingerprint(self) -> str:
        return hashlib.sha256(str(stat_file(self._path)).encode()).hexdigest()

    def prepare(self) -> list[str]:
        return []

    def read(self) -> beam.PTransform:
        return "Start" >> beam.Create([self._path]) | "Read" >> beam.FlatMap(_read)


def _read(path: str):
    arrays = np.load(path)
    for number, (image, label) in enumerate(zip(arrays["images"], arrays["labels"])):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        yield SourceImage(f"{number}.png", str(label), None, buffer.getvalue())
'''

ENTRY = """"arrays": SourceKind("data.sources.arrays", "ArraysSource", "arrays", bucket_name=r"\\.npz$"),\n    """

RUN = """
import json, sys

from components.image_example_gen.component import ImageExampleGen
from components.image_example_gen.executor import ImageExampleGenExecutor
from data.sources import make_source
from pipeline.config import load_config
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.run_local import data_choice
from pipeline.vertex import inputs
from tfx.types import standard_artifacts

archive, folder = sys.argv[1:]
data = load_config("digits", data=data_choice(archive)).data
node = ImageExampleGen(data, make_source(data).fingerprint(), "code")
examples = standard_artifacts.Examples()
examples.uri = folder
context = ImageExampleGenExecutor.Context(beam_pipeline_args=list(IN_PROCESS_BEAM_ARGS), tmp_dir=folder, unique_id="1")
ImageExampleGenExecutor(context).Do({}, {"examples": [examples]}, dict(node.exec_properties))
in_bucket = inputs.data_choice("gs://bucket/animals.npz").settings["source"]
print(json.dumps([data.source, in_bucket, json.load(open(folder + "/data_summary.json"))["counts"]]))
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Returns a copy of the code with the new source in it."""
    root = tmp_path / "house"
    for package in ("data", "components", "pipeline"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data" / "sources" / "arrays.py").write_text(MODULE, encoding="utf-8")
    table = root / "data" / "source_kinds.py"
    text = table.read_text(encoding="utf-8")
    before = '"image_folder": SourceKind('
    assert text.count(before) == 1
    table.write_text(text.replace(before, ENTRY + before), encoding="utf-8")
    return root


@pytest.mark.slow
def test_a_new_source_is_detected_and_read(house: Path, tmp_path: Path) -> None:
    archive = tmp_path / "animals.npz"
    noise = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), np.uint8)
    np.savez(archive, images=noise, labels=["cat", "dog"] * 40)
    (tmp_path / "examples").mkdir()
    command = [sys.executable, "-c", RUN, str(archive), str(tmp_path / "examples")]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    source, in_bucket, counts = json.loads(done.stdout.splitlines()[-1])
    assert (source, in_bucket) == ("arrays", "arrays")
    classes = {name: sum(split[name] for split in counts.values()) for name in ("cat", "dog")}
    assert classes == {"cat": 40, "dog": 40}


@pytest.mark.parametrize("name", SOURCES)
def test_what_the_table_says_is_there(name: str) -> None:
    kind = SOURCES[name]
    source = kind.load()
    assert all(callable(getattr(source, method)) for method in ("fingerprint", "prepare", "read"))
    assert (kind.path == "none") == (not kind.place)
    assert hasattr(source, "lies_at") == bool(kind.place)
    assert set(kind.reads) <= set(DataSettings.model_fields)
