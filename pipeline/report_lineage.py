"""What only ML Metadata knows of a run: how long each node took, and which artifact was made from which."""

import contextlib
import datetime
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import UserError
from pipeline.output_dir import OutputDir

PIPELINE_CONTEXT, RUN_CONTEXT, NODE_CONTEXT = "pipeline", "pipeline_run", "node"
OUTPUT_EVENTS = ("OUTPUT", "INTERNAL_OUTPUT")
_STATES = {"COMPLETE": "complete", "CACHED": "cached", "FAILED": "failed"}


@dataclass(frozen=True)
class RunRecord:
    """One run of a pipeline.

    Attributes:
        started: when its first node began.
        nodes: `{"id", "state", "seconds"}`, in the order in which they began.
        lineage: `{"artifact", "node", "inputs", "uri"}`, one for each output.
        uris: (node, output) to the artifact's folder.
        cleaned: of `uris`, those that were removed by `pipeline.clean`.
    """

    started: datetime.datetime
    nodes: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    uris: dict[tuple[str, str], str] = field(default_factory=dict)
    cleaned: set[tuple[str, str]] = field(default_factory=set)

    def to_account(self, root: Path | None) -> dict[str, Any]:
        """Returns the account's `run`; folders below `root` are named from there."""
        prefix = f"{root}/"
        lineage = [{**row, "uri": row["uri"].removeprefix(prefix)} for row in self.lineage]
        seconds = sum(node["seconds"] for node in self.nodes)
        title = f"Run of {self.started:%Y-%m-%d %H:%M:%S}: {seconds:.1f} s in its nodes."
        return {"title": title, "nodes": self.nodes, "lineage": lineage}


def check_database(path: str) -> None:
    """Looks whether SQLite can read the file; ML Metadata itself retries for seconds and gives no advice.

    Raises:
        UserError: it cannot.
    """
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            ((found,),) = database.execute("PRAGMA quick_check(1)")
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise UserError(
            f"{path}: is damaged ({found}); remove it to run everything anew, or choose another output folder"
        )


def open_store(metadata_path: Path) -> Any:
    """Opens the metadata of an output folder, a file that is there.

    Raises:
        UserError: it is damaged.
    """
    check_database(str(metadata_path))
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(metadata_path)
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    return metadata_store.MetadataStore(connection)


def read_runs(metadata_path: Path) -> list[RunRecord]:
    """Reads all runs of an output folder, the latest first.

    Args:
        metadata_path: the SQLite file of ML Metadata; without it there are none.

    Raises:
        UserError: it is damaged.
    """
    if not metadata_path.is_file():
        return []
    store = open_store(metadata_path)
    contexts = [context for context in store.get_contexts() if context.type == RUN_CONTEXT]
    runs = [_read_run(store, context, OutputDir(metadata_path.parent)) for context in contexts]
    return sorted((run for run in runs if run.nodes), key=lambda run: run.started, reverse=True)


def _read_run(store: Any, context: Any, output: OutputDir) -> RunRecord:
    from ml_metadata.proto import metadata_store_pb2

    executions = sorted(store.get_executions_by_context(context.id), key=lambda one: one.create_time_since_epoch)
    events = store.get_events_by_execution_ids([execution.id for execution in executions])
    artifacts = {one.id: one for one in store.get_artifacts_by_id(list({event.artifact_id for event in events}))}
    names = {execution.id: _node_id(store, execution) for execution in executions}
    started = executions[0].create_time_since_epoch if executions else context.create_time_since_epoch
    run = RunRecord(datetime.datetime.fromtimestamp(started / 1000))
    made: dict[int, str] = {}
    for execution in executions:
        node = names[execution.id]
        state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
        seconds = (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000
        run.nodes.append({"id": node, "state": _STATES.get(state, state.lower()), "seconds": round(seconds, 3)})
        mine = [event for event in events if event.execution_id == execution.id]
        kinds = {event.artifact_id: metadata_store_pb2.Event.Type.Name(event.type) for event in mine}
        keys = {event.artifact_id: event.path.steps[0].key for event in mine if event.path.steps}
        # By the name that its maker gave it; the next node may take it in by another.
        inputs = [made.get(i, f"{keys.get(i, '')} {i}") for i, kind in kinds.items() if kind not in OUTPUT_EVENTS]
        for artifact_id, kind in kinds.items():
            if kind in OUTPUT_EVENTS and artifact_id in artifacts:
                key, uri = keys.get(artifact_id, ""), output.rebase(artifacts[artifact_id].uri)
                run.uris[node, key] = uri
                if artifacts[artifact_id].state == metadata_store_pb2.Artifact.DELETED:
                    run.cleaned.add((node, key))
                artifact = made.setdefault(artifact_id, f"{key} {artifact_id}")
                run.lineage.append({"artifact": artifact, "node": node, "inputs": sorted(inputs), "uri": uri})
    return run


def _node_id(store: Any, execution: Any) -> str:
    for context in store.get_contexts_by_execution(execution.id):
        if context.type == NODE_CONTEXT:
            return context.name.rpartition(".")[2]
    return execution.type.rpartition(".")[2]
