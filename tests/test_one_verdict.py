"""What one gate refuses is blessed nowhere: for the Pusher, the resolver here, and Vertex AI's queries."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.components.pusher.executor import Executor as Pusher
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as vertex
from tfx.types import Artifact, standard_artifacts
from tfx.types.artifact_utils import deserialize_artifact

from components.drift_validator.component import DriftValidator_Executor as DriftValidator
from components.drift_validator.settings import DriftSettings
from components.evaluator.rollback import Rollback, write_rollback
from components.resolver.latest_blessed_other_model import LatestBlessedOtherModelStrategy
from components.serving_validator.findings import Finding, write_findings
from data.image_statistics import write_image_statistics
from pipeline.rehearsal.artifact_store import ArtifactStore, StoredArtifact, updated
from pipeline.rehearsal.executor_input import fill_query
from tests.test_drift_validator import make_statistics
from tests.test_evaluator_executor import evaluate
from tests.tiny_classifier import make_examples, make_model
from tests.transform_run import make_artifact

CLASSES = ["a", "b"]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "vertex_digits.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Verdict:
    """What one run came to, and the model that it was compared with; -1 without one."""

    blessed: bool
    refusals: list[str]
    pushed: bool
    baseline: int


class Runs:
    """Runs of one pipeline, kept in a metadata store of TFX's and in that of rehearsals."""

    def __init__(self, folder: Path) -> None:
        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self._store, self._folder = MetadataStore(config), folder
        self._vertex_store = ArtifactStore(folder / "artifacts.json", "digits")
        self._models: list[Artifact] = []
        self._blessings: list[Artifact] = []
        labels = np.arange(20) % 2
        self._examples = make_examples(folder / "examples", [CLASSES[i] for i in labels], 9 * np.eye(2)[labels])

    def run(
        self, seed: int, brightness: float = 0.0, gate: bool = True, served: bool = True, rolled_back: bool = False
    ) -> Verdict:
        """Judges a new model.

        Args:
            seed: of its images.
            brightness: how far they are from the others.
            gate: of the drift.
            served: whether the export passes its checks.
            rolled_back: whether the model was rolled back before, and is judged again.
        """
        number = len(self._models)
        root = self._folder / str(number)
        model = make_model(root / "model", CLASSES, np.eye(2), id=number + 1)
        write_image_statistics({"train": make_statistics(300, seed, brightness=brightness)}, model.uri)
        if rolled_back:
            write_rollback(model.uri, Rollback("confuses a and b", "Anna", "2026-11-26T14:00:00+00:00"))
        inputs = {"model": model}
        baseline = self.find_baseline(model)
        if baseline >= 0:
            inputs["baseline_model"] = self._models[baseline]
        drift = make_artifact(standard_artifacts.ExampleAnomalies, root / "drift")
        DriftValidator().Do(
            {key: [artifact] for key, artifact in inputs.items()},
            {"drift": [drift]},
            {"settings": DriftSettings(gate=gate).model_dump_json(), "code_hash": ""},
        )
        serving = make_artifact(standard_artifacts.InfraBlessing, root / "serving")
        write_findings(serving.uri, [Finding("labels", served, "what was found")], {})
        inputs |= {"examples": self._examples, "drift": drift, "infra_blessing": serving}
        evaluated = evaluate(root, inputs, [{"metric": "accuracy", "min": 0.5}])
        assert evaluated.results.metrics["accuracy"] == 1.0  # It is measured, whatever was refused.
        blessing = evaluated.blessing
        blessed = blessing.get_int_custom_property("blessed") == 1
        assert [path.name for path in Path(blessing.uri).iterdir()] == ["BLESSED" if blessed else "NOT_BLESSED"]
        assert evaluated.results.passed is blessed
        self._keep(model, blessing)
        refusals: dict[str, Any] = json.loads(blessing.get_string_custom_property("refusals"))
        assert refusals == evaluated.results.refusals
        pushed = Pusher().CheckBlessing({"model": [model], "model_blessing": [blessing]})
        return Verdict(blessed, list(refusals), pushed, baseline)

    def _keep(self, model: Artifact, blessing: Artifact) -> None:
        self._models.append(model)
        kept = metadata_store_pb2.Artifact()
        kept.CopyFrom(blessing.mlmd_artifact)
        kept.type_id = self._store.put_artifact_type(blessing.artifact_type)
        (found,) = self._store.get_artifacts_by_id(self._store.put_artifacts([kept]))
        self._blessings.append(deserialize_artifact(blessing.artifact_type, found))
        names = {one.id: f"model/{one.id}" for one in self._models}
        vertex.refactor_model_blessing(blessing, names)
        stored = StoredArtifact("", "", {}, {})
        for artifact in (model, blessing):
            kind = {"instanceSchema": f"title: tfx.{artifact.type_name}\n"}
            message = vertex.to_runtime_artifact(artifact, names)
            one = replace(updated(stored, message), name=message.name or f"blessing/{model.id}", type=kind)
            self._vertex_store.add({"output": one})

    def find_baseline(self, candidate: Artifact | None = None) -> int:
        """Returns the number of the run whose model the next is compared with, on which both ways agree, or -1."""
        channels = {"model": self._models, "model_blessing": self._blessings}
        channels["candidate"] = [candidate or standard_artifacts.Model()]
        resolved = LatestBlessedOtherModelStrategy().resolve_artifacts(self._store, channels)
        found = (resolved or {}).get("model")
        local = self._models.index(found[0]) if found else -1
        assert self._find_on_vertex() == (self._models[local].uri if found else None)
        return local

    def _find_on_vertex(self) -> str | None:
        executors = GOLDEN["pipelineSpec"]["deploymentSpec"]["executors"]
        found: dict[str, StoredArtifact] = {}
        for task, key in (("model-blessing", "model_blessing"), ("model", "model")):
            queries = executors[f"ModelResolver-{task}-resolver_executor"]["resolver"]["outputArtifactQueries"]
            artifact = self._vertex_store.find(fill_query(queries[key]["filter"], found))
            if artifact is None:
                return None
            found = {"input": artifact}
        return found["input"].uri


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_drift_gate_refuses_run_after_run_until_the_images_are_accepted_and_a_refused_model_is_no_baseline(
    runs: Runs,
) -> None:
    assert runs.run(1) == Verdict(True, [], True, -1)
    assert runs.run(2, served=False) == Verdict(False, ["serving_validator"], False, 0)
    assert runs.find_baseline() == 0
    assert runs.run(3, brightness=2.0) == Verdict(False, ["drift.gate"], False, 0)
    assert runs.run(3, rolled_back=True) == Verdict(False, ["rollback"], False, 0)
    assert runs.find_baseline() == 0
    both = ["drift.gate", "serving_validator"]
    assert runs.run(4, brightness=2.0, served=False) == Verdict(False, both, False, 0)
    assert runs.run(5, brightness=2.0, gate=False) == Verdict(True, [], True, 0)
    assert runs.find_baseline() == 5
