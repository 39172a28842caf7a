"""The graph: its nodes, what each node's cache key holds, and import paths that TFX finds again."""

import functools
import inspect
import json
import re
from pathlib import Path

import pytest
from tfx.dsl.compiler.compiler import Compiler
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.proto.orchestration import pipeline_pb2
from tfx.utils import import_utils

from components.pusher.component import AtomicPusher
from components.trainer.weights import ResolvedWeights
from components.tuner.component import TUNER_FN
from data.errors import UserError
from pipeline.config import PipelineConfig, load_config
from pipeline.create_pipeline import PREPROCESSING_FN, RUN_FN, Deployment, create_pipeline
from pipeline.vertex.compile import make_deployment
from tests.vertex_settings import make_settings

SCHEMA = 'feature { name: "image" type: BYTES } feature { name: "label" type: BYTES }'
DEPLOYMENT = Deployment(
    "/root_of_it", functools.partial(AtomicPusher, base_directory="/served"), (), "/metadata.sqlite"
)
SERVICE = make_deployment(load_config("digits"), make_settings())
TUNED = ["trainer.recipe=manual", "tuner.enabled=true"]


def nodes(
    config: PipelineConfig, weights: ResolvedWeights | None = None, deployment: Deployment = DEPLOYMENT
) -> dict[str, pipeline_pb2.PipelineNode]:
    pipeline = create_pipeline(config, deployment, "fingerprint", weights or ResolvedWeights("none"))
    return {node.pipeline_node.node_info.id: node.pipeline_node for node in Compiler().compile(pipeline).nodes}


@functools.cache
def plain_nodes(*overrides: str) -> dict[str, pipeline_pb2.PipelineNode]:
    return nodes(load_config("digits", overrides=overrides))


def changed_nodes(*overrides: str, weights: ResolvedWeights | None = None) -> set[str]:
    before, after = plain_nodes(), nodes(load_config("digits", overrides=overrides), weights)
    return {name for name in before if before[name].parameters != after[name].parameters}


def test_the_nodes_and_their_order() -> None:
    upstream = {name: set(node.upstream_nodes) for name, node in plain_nodes().items()}
    assert upstream == {
        "ImageExampleGen": set(),
        "StatisticsGen": {"ImageExampleGen"},
        "SchemaGen": {"StatisticsGen"},
        "ExampleValidator": {"StatisticsGen", "SchemaGen"},
        "Transform": {"ImageExampleGen", "SchemaGen"},
        "Trainer": {"Transform", "SchemaGen"},
        "ModelResolver": {"Trainer"},
        "DriftValidator": {"Trainer", "ModelResolver"},
        "Predictor": {"ImageExampleGen", "Trainer", "ModelResolver"},
        "ServingValidator": {"ImageExampleGen", "Transform", "Trainer", "Predictor"},
        "Evaluator": {
            "ImageExampleGen",
            "SchemaGen",
            "Trainer",
            "ModelResolver",
            "DriftValidator",
            "ServingValidator",
        },
        "Pusher": {"Trainer", "Evaluator", "Predictor"},
        "ReportGen": {
            "ImageExampleGen",
            "StatisticsGen",
            "ExampleValidator",
            "Transform",
            "Trainer",
            "Evaluator",
            "DriftValidator",
            "ServingValidator",
            "Predictor",
        },
    }


@pytest.mark.parametrize("deployment", [DEPLOYMENT, SERVICE])
def test_formats_are_converted_after_the_push_where_they_are_asked_for(deployment: Deployment) -> None:
    without, graph = (
        nodes(load_config("digits", overrides=overrides), deployment=deployment)
        for overrides in ([], ["export.formats=[litert]"])
    )
    assert set(graph) - set(without) == {"ModelConverter"}
    assert set(graph["ModelConverter"].upstream_nodes) == {"ImageExampleGen", "Trainer", "Predictor", "Pusher"}
    assert set(graph["ReportGen"].upstream_nodes) - set(without["ReportGen"].upstream_nodes) == {"ModelConverter"}
    # What is pushed and all before it is as without them; the report shows the configuration.
    assert {name for name in without if graph[name].parameters != without[name].parameters} == {"ReportGen"}


@pytest.mark.parametrize(("deployment", "seen"), [(DEPLOYMENT, {"ImageExampleGen"}), (SERVICE, set())])
def test_a_warm_start_looks_for_its_base_before_the_trainer(deployment: Deployment, seen: set[str]) -> None:
    """Vertex AI's own strategy takes no examples: there each run goes on from the last blessed model."""
    graph = nodes(load_config("digits", overrides=["trainer.warm_start=blessed"]), deployment=deployment)
    assert set(graph) - set(plain_nodes()) == {"BaseModelResolver"}
    assert set(graph["BaseModelResolver"].upstream_nodes) == seen
    assert set(graph["Trainer"].upstream_nodes) == {"Transform", "SchemaGen", "BaseModelResolver"}
    assert graph["Trainer"].inputs.inputs["base_model"].min_count == 0  # The first run has no base.


@pytest.mark.parametrize(
    ("override", "touched"),
    [
        ("trainer.batch_size=64", {"Trainer"}),
        ("trainer.warm_start=blessed", {"Trainer"}),
        ("transform.aspect=crop", {"Transform"}),
        ("transform.image_size=64", {"Transform", "Trainer"}),
        ("trainer.backbone=vgg19", {"Trainer"}),
        ("drift.gate=true", {"DriftValidator"}),
        ("serving_validator.max_model_mb=10", {"ServingValidator"}),
        ("decision.target_precision=0.95", {"Trainer"}),
        ("evaluator.gates=[{metric: accuracy, min: 0.5}]", {"Evaluator"}),
        ("data.test_share=0.2", {"ImageExampleGen"}),
        ("report.images=false", set()),
        ("export.max_accuracy_loss=0.5", set()),
    ],
)
def test_a_setting_is_part_of_the_cache_key_of_the_nodes_that_it_touches(override: str, touched: set[str]) -> None:
    # The report shows the whole configuration.
    assert changed_nodes(override) == touched | {"ReportGen"}


def test_other_weights_retrain() -> None:
    assert changed_nodes(weights=ResolvedWeights("none", None, "0" * 64)) == {"Trainer"}


def test_a_mirror_of_the_weights_re_runs_nothing() -> None:
    override = "trainer.weights_mirror=https://mirror.example/keras"
    assert changed_nodes(override) == set()
    found = ResolvedWeights("imagenet", "/home/.keras/models/vgg16.h5", "0" * 64)
    assert changed_nodes(override, weights=found) == changed_nodes(weights=found)


@pytest.mark.parametrize("deployment", [DEPLOYMENT, SERVICE])
def test_pipelines_of_one_root_have_each_its_own_checkpoints(deployment: Deployment) -> None:
    found = []
    for name in ("digits", "photos"):
        graph = nodes(load_config("digits", overrides=[f"name={name}", *TUNED]), deployment=deployment)
        for node in ("Trainer", "Tuner"):
            custom_config = graph[node].parameters.parameters["custom_config"].field_value.string_value
            found.append(json.loads(custom_config)["checkpoint_dir"])
    roots = [f"{deployment.pipeline_root}/.resume/{name}" for name in ("digits", "photos")]
    assert found == [f"{root}/{node}" for root in roots for node in ("Trainer", "Tuner")]


def test_a_curated_schema_takes_the_place_of_the_inferred_one(tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(SCHEMA, encoding="utf-8")
    graph = nodes(load_config("digits", overrides=[f"schema_path={schema}"]))
    assert "SchemaGen" not in graph
    assert "ImportSchemaGen" in graph
    assert "ImportSchemaGen" in graph["Transform"].upstream_nodes


def test_a_tuner_comes_before_the_trainer_and_hands_it_its_best_values() -> None:
    without, graph = plain_nodes(*TUNED[:1]), plain_nodes(*TUNED)
    assert set(graph) - set(without) == {"Tuner"}
    assert set(graph["Tuner"].upstream_nodes) == {"Transform"}
    (channel,) = graph["Trainer"].inputs.inputs["hyperparameters"].channels
    assert (channel.producer_node_query.id, channel.output_key) == ("Tuner", "best_hyperparameters")
    # All else is as without it, the cache key of the Trainer's own parameters included.
    # But for the report's, which shows the configuration.
    assert {name for name in without if graph[name].parameters != without[name].parameters} == {"ReportGen"}
    assert "Tuner" in graph["ReportGen"].upstream_nodes


@pytest.mark.parametrize(
    ("override", "touched"),
    [
        ("tuner.max_trials=9", {"Tuner"}),
        ("trainer.dropout=0.3", {"Tuner", "Trainer"}),
        ("decision.target_precision=0.95", {"Trainer"}),
        ("evaluator.gates=[{metric: accuracy, min: 0.5}]", {"Evaluator"}),
    ],
)
def test_a_setting_is_part_of_the_cache_key_of_the_tuner(override: str, touched: set[str]) -> None:
    before, after = plain_nodes(*TUNED), nodes(load_config("digits", overrides=[*TUNED, override]))
    changed = {name for name in before if before[name].parameters != after[name].parameters}
    assert changed == touched | {"ReportGen"}


def test_the_tuner_compiles_for_vertex() -> None:
    config = load_config("digits", overrides=TUNED)
    pipeline = create_pipeline(config, SERVICE, "", ResolvedWeights("none"))
    runner_config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image")
    spec = kubeflow_v2_dag_runner.KubeflowV2DagRunner(config=runner_config).run(pipeline, write_out=False)[
        "pipelineSpec"
    ]
    task = spec["root"]["dag"]["tasks"]["Trainer"]["inputs"]["artifacts"]["hyperparameters"]
    assert task["taskOutputArtifact"] == {"producerTask": "Tuner", "outputArtifactKey": "best_hyperparameters"}
    component = spec["components"][spec["root"]["dag"]["tasks"]["Tuner"]["componentRef"]["name"]]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    assert "components.tuner.executor.Executor" in container["args"]


@pytest.mark.parametrize("path", [PREPROCESSING_FN, RUN_FN, TUNER_FN])
def test_import_paths_are_found_by_the_loader_of_tfx(path: str) -> None:
    module, _, name = path.rpartition(".")
    function = import_utils.import_func_from_module(module, name)
    assert inspect.isfunction(function)
    # TFX reloads the module: it must hold functions and constants only.
    classes = [value for value in vars(inspect.getmodule(function)).values() if inspect.isclass(value)]
    assert not [value for value in classes if value.__module__ == module]


def curated_key(path: Path) -> str:
    node = nodes(load_config("digits", overrides=[f"schema_path={path}"]))["ImportSchemaGen"]
    return str(node.parameters)


def test_an_edited_curated_schema_is_not_served_from_cache(tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(SCHEMA, encoding="utf-8")
    before = curated_key(schema)
    assert curated_key(schema) == before
    schema.write_text(SCHEMA + "# edited", encoding="utf-8")
    assert curated_key(schema) != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "which cannot be read (NotFoundError)"),
        ("feature {", "which is no schema"),
        ('feature { name: "image" }', "which has no feature 'label'"),
    ],
)
def test_a_curated_schema_that_cannot_be_used_is_one_clear_line(tmp_path: Path, text: str | None, message: str) -> None:
    schema = tmp_path / "schema.pbtxt"
    if text is not None:
        schema.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"schema_path is {schema}, {message}")) as caught:
        curated_key(schema)
    assert "\n" not in str(caught.value)
