"""The report's nodes on Vertex AI: they compile there, with artifact types that it knows."""

import json
from pathlib import Path

from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from components.trainer.weights import ResolvedWeights
from pipeline.config import load_config
from pipeline.create_pipeline import create_pipeline
from pipeline.vertex.compile import make_deployment
from tests.vertex_settings import make_settings


def test_the_nodes_compile_for_vertex_with_standard_artifact_types(tmp_path: Path) -> None:
    digits = load_config("digits")
    pipeline = create_pipeline(digits, make_deployment(digits, make_settings()), "fingerprint", ResolvedWeights("none"))
    config = KubeflowV2DagRunnerConfig(default_image="example.org/image:1")
    KubeflowV2DagRunner(config, str(tmp_path), "job.json").run(pipeline, write_out=True)
    spec = json.loads((tmp_path / "job.json").read_text(encoding="utf-8"))["pipelineSpec"]
    outputs = {name: spec["components"][name]["outputDefinitions"]["artifacts"] for name in ("Predictor", "ReportGen")}
    kinds = {name: kind["artifactType"] for artifacts in outputs.values() for name, kind in artifacts.items()}
    assert "InferenceResult" in str(kinds["predictions"])
    assert "tfx.File" in str(kinds["report"])
    tasks = spec["root"]["dag"]["tasks"]
    assert "Pusher" not in tasks["ReportGen"]["dependentTasks"]
    assert "ReportGen" not in tasks["Pusher"]["dependentTasks"]
