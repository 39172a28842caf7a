"""Runs a pipeline in this process, node by node, and tells a listener what happens."""

import ctypes
import datetime
import gc
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.exported_model import SAVED_MODEL_FILE
from data import gfile
from pipeline.interruption import was_interrupted
from pipeline.output_dir import OutputDir
from pipeline.report_lineage import check_database

PUSHED_DESTINATION = "pushed_destination"
_Execution = metadata_store_pb2.Execution
_MAX_RESTARTS = 20
_COLLECTED_SECONDS = 10.0
"""From how long a node on garbage is looked for after it, which takes 0.4 s with all libraries imported."""
_REPORTING_NODE = "ReportGen"
"""It runs last: a report that fails, or takes its time, must not keep a blessed model from being pushed."""


class NodeListener(Protocol):
    """Whoever shows a run to a person."""

    def node_started(self, node_id: str) -> None:
        """A node begins."""

    def node_ended(self, node_id: str, state: str, seconds: float) -> None:
        """A node has ended; state is `complete`, `cached` or `failed`."""


@dataclass
class NodeResult:
    """How a node of this run ended.

    Attributes:
        node_id: the node's name in the graph.
        state: `complete`, `cached` or `failed`.
        seconds: wall time.
        outputs: the ML Metadata artifacts by output name; empty where it failed.
    """

    node_id: str
    state: str
    seconds: float
    outputs: dict[str, list[metadata_store_pb2.Artifact]] = field(default_factory=dict)

    def to_account(self) -> dict[str, Any]:
        """Returns what summary and report tell of the node."""
        return {"id": self.node_id, "state": self.state, "seconds": round(self.seconds, 3)}


class NodeFailedError(RuntimeError):
    """A node ended without an exception, yet its execution is marked as failed."""


class _CachedOutputsGoneError(Exception):
    """A node was served from cache, but somebody has deleted the files."""


class ObservedLocalRunner:
    """TFX's LocalDagRunner with a listener, a result for every node, and no trust in deleted files.

    `LocalDagRunner.run` returns nothing, goes on silently after a node whose inputs could not be resolved, and
    serves outputs from cache that are no longer on disk; so the loop over the nodes is our own, on the same
    launcher.
    """

    def __init__(self, listener: NodeListener):
        """Reports to `listener` while `run` runs; `results` holds what has ended so far, also after an error."""
        self._listener = listener
        self.results: list[NodeResult] = []
        self._told: set[str] = set()

    def run(self, pipeline: Pipeline) -> list[NodeResult]:
        """Runs the nodes in topological order.

        Raises:
            NodeFailedError: a node's inputs could not be resolved.
            Exception: whatever a node's executor raised, unchanged; the node's result says `failed`.
        """
        self._told = set()
        without_cache: set[str] = set()
        for _ in range(_MAX_RESTARTS):
            try:
                return self._run_once(compiler.Compiler().compile(pipeline), without_cache)
            except _CachedOutputsGoneError as gone:
                logging.warning("The cached outputs of %s are gone from the disk; it runs again.", gone)
                without_cache.add(str(gone))
        raise RuntimeError(f"cached outputs of {sorted(without_cache)} keep disappearing")

    def _run_once(self, ir: pipeline_pb2.Pipeline, without_cache: set[str]) -> list[NodeResult]:
        self.results = []
        run_id = datetime.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
        deployment = runner_utils.extract_local_deployment_config(ir)
        connection_config = deployment.metadata_connection_config
        connection = metadata.Metadata(getattr(connection_config, connection_config.WhichOneof("connection_config")))
        nodes = [either.pipeline_node for either in ir.nodes]
        # Nothing but themselves waits for them, so that the order stays topological.
        for node in sorted(nodes, key=lambda node: node.node_info.id == _REPORTING_NODE):
            if was_interrupted():  # by what a node took for a failure of its own, and went on without
                raise KeyboardInterrupt
            if node.node_info.id in without_cache:
                node.execution_options.caching_options.enable_cache = False
            self._run_node(node, ir, deployment, connection)
            _give_back_memory(self.results[-1].seconds)
        return self.results

    def _run_node(
        self, node: pipeline_pb2.PipelineNode, ir: pipeline_pb2.Pipeline, deployment: Any, connection: metadata.Metadata
    ) -> None:
        node_id = node.node_info.id
        self._listener.node_started(node_id)
        started = time.monotonic()
        result, gone = NodeResult(node_id, "failed", 0.0), False
        self.results.append(result)
        try:
            executor_spec = runner_utils.extract_executor_spec(deployment, node_id)
            execution_info = launcher.Launcher(
                pipeline_node=node,
                mlmd_connection=connection,
                pipeline_info=ir.pipeline_info,
                pipeline_runtime_spec=ir.runtime_spec,
                executor_spec=executor_spec,
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
            ).launch()
            state, outputs = _published(connection, execution_info.execution_id)
            if state not in (_Execution.COMPLETE, _Execution.CACHED):
                raise NodeFailedError(f"{node_id}: its inputs could not be resolved")
            cached = state == _Execution.CACHED
            if executor_spec is None:
                # A system node (the Resolver) looks things up each time and is always published as cached; it has
                # nothing new to say when nothing before it was new.
                cached = all(earlier.state == "cached" for earlier in self.results[:-1])
            elif cached and not _outputs_are_whole(outputs):
                raise _CachedOutputsGoneError(node_id)
            result.outputs = outputs
            result.state = "cached" if cached else "complete"
        except _CachedOutputsGoneError:
            gone = True
            raise
        finally:
            result.seconds = time.monotonic() - started
            if not gone and node_id not in self._told:  # after a restart only what is new
                self._told.add(node_id)
                self._listener.node_ended(node_id, result.state, result.seconds)


def _give_back_memory(seconds: float) -> None:
    """Gives back what a node that took so long has freed: glibc keeps it, and the next node's peak comes on top."""
    if seconds >= _COLLECTED_SECONDS:
        gc.collect()  # models hold themselves in cycles
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc alone
        trim(0)


def _published(
    connection: metadata.Metadata, execution_id: int
) -> tuple[int, dict[str, list[metadata_store_pb2.Artifact]]]:
    """Returns an execution's state and its output artifacts by output name, as ML Metadata has them."""
    outputs: dict[str, list[metadata_store_pb2.Artifact]] = {}
    with connection as handle:
        store = handle.store
        (execution,) = store.get_executions_by_id([execution_id])
        kinds = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
        events = [event for event in store.get_events_by_execution_ids([execution_id]) if event.type in kinds]
        artifacts = {a.id: a for a in store.get_artifacts_by_id([event.artifact_id for event in events])}
    for event in events:
        outputs.setdefault(event.path.steps[0].key, []).append(artifacts[event.artifact_id])
    return execution.last_known_state, outputs


def _outputs_are_whole(outputs: dict[str, list[metadata_store_pb2.Artifact]]) -> bool:
    """Says whether what other nodes and the user read is still there: splits, models, and what was pushed."""
    needed: list[str] = []
    for artifact in (artifact for artifacts in outputs.values() for artifact in artifacts):
        needed.append(artifact.uri)
        if artifact.type == standard_artifacts.Examples.TYPE_NAME:
            splits = json.loads(artifact.properties["split_names"].string_value or "[]")
            needed += [os.path.join(artifact.uri, f"Split-{split}") for split in splits]
        if artifact.type == standard_artifacts.Model.TYPE_NAME:
            needed.append(os.path.join(path_utils.serving_model_dir(artifact.uri), SAVED_MODEL_FILE))
        if destination := artifact.custom_properties[PUSHED_DESTINATION].string_value:
            needed.append(os.path.join(destination, SAVED_MODEL_FILE))
    return all(map(gfile.exists, needed))


def adopt_moved_artifacts(output: OutputDir) -> str | None:
    """Makes the metadata of a folder that was moved, renamed or copied name the files that are in it.

    Only safe while the output folder is locked.

    Returns:
        A line on what that means, None where all is at its place.

    Raises:
        UserError: the metadata are damaged.
    """
    if not output.metadata_path.is_file() or not output.metadata_path.stat().st_size:
        return None
    check_database(str(output.metadata_path))
    moved, before = [], ""
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(output.metadata_path))) as handle:
        for artifact in handle.store.get_artifacts():
            uri = output.rebase(artifact.uri)
            if uri == artifact.uri:
                continue
            before = artifact.uri.rpartition("/pipeline_root/")[0]
            artifact.uri = uri
            for value in artifact.custom_properties.values():
                if value.string_value.startswith(f"{before}/"):  # such as where it was pushed to
                    value.string_value = f"{output.root}{value.string_value.removeprefix(before)}"
            moved.append(artifact)
        if moved:
            handle.store.put_artifacts(moved)
    if not moved:
        return None
    return (
        f"this folder was {before}: its runs, baseline, reports and pushed models are kept; all nodes after"
        " ImageExampleGen run again, once, since the cache goes by where their inputs lie"
    )


def clear_abandoned_executions(metadata_path: str, pipeline_root: str) -> int:
    """Closes what a killed run left open: executions marked as running, and their half-written folders.

    Without the metadata nobody finds the artifacts any more, and since their folders are numbered from 1 again, new
    files would mix with old ones: then all of `pipeline_root` is removed.

    Only safe while the output folder is locked: then nothing can really be running.

    Returns:
        How many executions were closed.

    Raises:
        UserError: the metadata are damaged.
    """
    root = Path(pipeline_root)
    if not os.path.exists(metadata_path) or not os.path.getsize(metadata_path):
        shutil.rmtree(root, ignore_errors=True)
        return 0
    check_database(metadata_path)
    for leftover in root.glob("*/.system/stateful_working_dir"):
        shutil.rmtree(leftover, ignore_errors=True)
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(metadata_path)) as handle:
        abandoned = [
            execution
            for execution in handle.store.get_executions()
            if execution.last_known_state in (_Execution.NEW, _Execution.RUNNING)
        ]
        for execution in abandoned:
            for folder in [*root.glob(f"*/*/{execution.id}"), *root.glob(f"*/.system/*/{execution.id}")]:
                shutil.rmtree(folder)
            execution.last_known_state = _Execution.FAILED
        if abandoned:
            handle.store.put_executions(abandoned)
    return len(abandoned)
