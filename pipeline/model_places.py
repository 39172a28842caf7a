"""Which folder of pushed versions a person means, and which output folder has the blessings of its models."""

import contextlib
import os
import sqlite3
from pathlib import Path

from components.exported_model import SAVED_MODEL_FILE
from data.errors import UserError
from data.files import is_remote
from pipeline.local_runner import PUSHED_DESTINATION
from pipeline.model_blessings import ModelBlessings
from pipeline.output_dir import DEFAULT_OUTPUT, OutputDir
from pipeline.pushed_versions import JOURNAL_FILE, PushedVersions


def find_output(folder: str, output_dir: str | None) -> OutputDir | None:
    """Returns the output folder that is named, is around a folder of versions, or is that folder; None without one.

    Around a bucket there is none: there it is the one below the default output whose runs pushed to that folder.

    Raises:
        UserError: what is named holds no runs, or several pushed to the bucket's folder.
    """
    if output_dir is not None:
        output = OutputDir(Path(output_dir).resolve())
        if not _holds_runs(output):
            raise UserError(
                f"--output-dir {output_dir}: holds no runs (no metadata.sqlite and pipeline_root); give an output"
                " folder of pipeline.run_local"
            )
        return output
    if is_remote(folder):
        return _find_pusher(folder.rstrip("/"))
    path = Path(folder).resolve()
    return next((output for output in map(OutputDir, (path, *path.parents)) if _holds_runs(output)), None)


def find_versions(folder: str, output: OutputDir | None, blessings: ModelBlessings | None) -> PushedVersions:
    """Returns the folder of versions that a person names, or the only one that the runs of an output folder push to.

    Raises:
        UserError: it is none, or there are several.
    """
    if is_remote(folder):
        return PushedVersions(folder.rstrip("/"))
    path = Path(folder).resolve()
    if output is None or blessings is None or path != output.root:
        if (path / SAVED_MODEL_FILE).is_file():
            raise UserError(f"{folder}: is a version itself; give the folder that it lies in, {path.parent}")
        if not path.is_dir():
            raise UserError(f"{folder}: is no folder; give an output folder of pipeline.run_local, or one of versions")
        return PushedVersions(str(path))
    places = {os.path.dirname(version) for version in blessings.find_pushes()}
    places |= {str(place) for place in output.serving_model_dir.glob("*") if place.is_dir()}
    found = [place for place in sorted(places) if is_remote(place) or _holds_versions(PushedVersions(place))]
    if not found:
        raise UserError(f"{folder}: its runs have pushed no model that is still there")
    if len(found) > 1:
        raise UserError(f"{folder}: its runs push to {' and '.join(found)}; name one, with --output-dir {folder}")
    return PushedVersions(found[0])


def _find_pusher(folder: str) -> OutputDir | None:
    found = [
        output
        for output in map(OutputDir, sorted(DEFAULT_OUTPUT.glob("*")))
        if _holds_runs(output) and _pushed_to(output, f"{folder}/")
    ]
    if len(found) > 1:
        places = " and of ".join(str(output.root) for output in found)
        raise UserError(f"{folder}: runs of {places} pushed there; name the one that counts with --output-dir")
    return found[0] if found else None


def _pushed_to(output: OutputDir, prefix: str) -> bool:
    """Says whether a push of an output folder went below a place; damaged metadata tell of none."""
    with (
        contextlib.suppress(sqlite3.DatabaseError),
        contextlib.closing(sqlite3.connect(f"{output.metadata_path.as_uri()}?mode=ro", uri=True)) as database,
    ):
        query = "SELECT 1 FROM ArtifactProperty WHERE name = ? AND substr(string_value, 1, ?) = ? LIMIT 1"
        return database.execute(query, (PUSHED_DESTINATION, len(prefix), prefix)).fetchone() is not None
    return False


def _holds_runs(output: OutputDir) -> bool:
    return output.metadata_path.is_file() and output.pipeline_root.is_dir()


def _holds_versions(versions: PushedVersions) -> bool:
    return os.path.isdir(versions.root) and (
        any(versions.list()) or os.path.isfile(os.path.join(versions.root, JOURNAL_FILE))
    )
