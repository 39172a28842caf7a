"""Puts the formats of a pushed model where a user finds them: `formats/<name>/<version>` in the output folder.

Not beside the pushed version: model servers list that folder, and copy what lies in a version before they load it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from components.model_converter.record import FORMATS_FILE, FORMATS_KEY
from data.json_files import read_json
from pipeline.local_runner import PUSHED_DESTINATION, NodeResult
from pipeline.output_dir import OutputDir


def publish_formats(output: OutputDir, name: str, results: Sequence[NodeResult]) -> Path | None:
    """Copies the formats that were kept; the folder appears whole, and its version is that of the pushed model.

    Args:
        output: of the run that has just ended.
        name: of the pipeline.
        results: of the run's nodes.

    Returns:
        The folder, or None where nothing was pushed or no format was kept.
    """
    outputs = {(result.node_id, key): artifacts[0] for result in results for key, artifacts in result.outputs.items()}
    converted, pushed = outputs.get(("ModelConverter", FORMATS_KEY)), outputs.get(("Pusher", "pushed_model"))
    destination = pushed.custom_properties[PUSHED_DESTINATION].string_value if pushed is not None else ""
    if converted is None or not destination:
        return None
    source, target = Path(converted.uri), output.formats_dir / name / Path(destination).name
    if not any(row["kept"] for row in read_json(str(source / FORMATS_FILE))["formats"].values()):
        return None
    if _is_same(source, target):
        return target
    partial, old = (target.with_name(f".{word}-{target.name}") for word in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(source, partial)
    if target.exists():  # of the same model, when other formats were asked for
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _is_same(source: Path, target: Path) -> bool:
    """Says whether the target is a copy already: no two conversions take the same time."""
    records = [folder / FORMATS_FILE for folder in (source, target)]
    return records[1].is_file() and len({record.read_bytes() for record in records}) == 1
