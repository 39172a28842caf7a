"""The one pipeline graph; every runner gets it from here."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfx.components import ExampleValidator, Pusher, SchemaGen, Trainer
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2
from tfx.types import BaseChannel
from tfx.types import standard_component_specs as specs

from components.code_hash import make_code_hash
from components.drift_validator.component import DriftValidator
from components.evaluator.component import make_evaluator
from components.image_example_gen.component import ImageExampleGen
from components.model_converter.component import CLIENT_MODULE, ModelConverter
from components.model_converter.record import FORMATS_KEY
from components.predictor.component import Predictor
from components.report_gen.component import ReportGen
from components.resolver.component import make_resolver
from components.resolver.latest_blessed_base_model import LatestBlessedBaseModelStrategy
from components.resolver.latest_blessed_other_model import CANDIDATE_KEY, LatestBlessedOtherModelStrategy
from components.schema_gen.component import CuratedSchemaGen
from components.serving_validator.component import ServingValidator
from components.statistics_gen.component import StatisticsGen
from components.trainer.checkpoints import RESUME_DIR
from components.trainer.weights import WEIGHTS_DIR_KEY, ResolvedWeights
from components.transform.component import Transform
from components.tuner.component import TrialTunerNode
from components.weights_mirror.component import WeightsMirror
from data.source_kinds import SOURCES
from pipeline.config import PipelineConfig

PREPROCESSING_FN = "components.transform.preprocessing.preprocessing_fn"
RUN_FN = "components.trainer.run_fn.run_fn"


@dataclass(frozen=True)
class Deployment:
    """Where a pipeline runs: what differs between a laptop and a cloud, and nothing else.

    Attributes:
        pipeline_root: tree of all artifacts, a local or `gs://` path.
        make_pusher: `model`, `model_blessing` and `predictions` -> the Pusher.
        beam_pipeline_args: flags of every Beam step.
        metadata_path: SQLite file of ML Metadata, or None where the service keeps the metadata.
        enable_cache: whether unchanged nodes are served from cache.
        node_beam_args: further flags of single Beam steps, by the node's id.
        trainer_executor: of the Trainer; TFX's own trains in the node itself.
        trainer_job: what that executor needs, further keys of the Trainer's `custom_config`.
        make_resolver: a strategy and what it looks at besides models and blessings -> the resolver.
    """

    pipeline_root: str
    make_pusher: Callable[..., Pusher]
    beam_pipeline_args: tuple[str, ...]
    metadata_path: str | None = None
    enable_cache: bool = True
    node_beam_args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trainer_executor: type[BaseExecutor] = GenericExecutor
    trainer_job: Mapping[str, Any] = field(default_factory=dict)
    make_resolver: Callable[[type[ResolverStrategy], Mapping[str, BaseChannel]], Resolver] = make_resolver


def create_pipeline(
    config: PipelineConfig, deployment: Deployment, source_fingerprint: str, weights: ResolvedWeights
) -> Pipeline:
    """Builds the graph from labelled images to a pushed model.

    Args:
        config: what to do.
        deployment: where to do it.
        source_fingerprint: the state of the images, from `Source.fingerprint()`; part of ImageExampleGen's cache key.
        weights: what training starts from, looked up; their hash is part of the Trainer's cache key.

    Raises:
        UserError: the curated schema cannot be used.
    """
    source_module = SOURCES[config.data.source].module  # Which it imports by name.
    code_hash = make_code_hash("components.image_example_gen.executor", source_module)
    example_gen = ImageExampleGen(config.data, source_fingerprint, code_hash)
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples)
    statistics = statistics_gen.outputs["statistics"]
    if config.schema_path is None:
        # From train alone: `eval` and `test` are then validated against something that they did not shape.
        schema_gen = SchemaGen(statistics=statistics, infer_feature_shape=True, exclude_splits=["eval", "test"])
    else:
        schema_gen = CuratedSchemaGen(config.schema_path)
    schema = schema_gen.outputs["schema"]
    example_validator = ExampleValidator(statistics=statistics, schema=schema)
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=PREPROCESSING_FN,
        custom_config={
            "transform": config.transform.model_dump(mode="json"),
            "code_hash": make_code_hash("components.transform.preprocessing"),
            "executor_hash": make_code_hash("components.transform.executor"),
        },
        # Nobody reads the statistics of packed images, and no analyzer is worth a cache: 2 to 4 s of each run.
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    base_resolver = None
    if config.trainer.warm_start == "blessed":
        seen = {specs.EXAMPLES_KEY: examples}
        base_resolver = deployment.make_resolver(LatestBlessedBaseModelStrategy, seen).with_id("BaseModelResolver")
    # Where weights are downloaded from changes nothing that is learnt or shown: their hash is in the key.
    settings = _without_mirror(config)
    trainer_config = {
        "trainer": {**settings["trainer"], "weights": weights.kind},
        "image_size": config.transform.image_size,
        "weights_hash": weights.sha256,
    }
    weights_mirror = None
    if weights.kind == "imagenet" and weights.path is None:
        # On Vertex AI alone: on this machine they lie in Keras's cache by now.
        weights_dir = trainer_config[WEIGHTS_DIR_KEY] = os.path.join(deployment.pipeline_root, ".weights")
        if mirror := config.trainer.weights_mirror:
            weights_mirror = WeightsMirror(backbone=config.trainer.backbone, mirror=mirror, weights_dir=weights_dir)
    # The same in every run, unlike TFX's folders: a run that was killed is gone on with. Pipelines may share a root.
    checkpoint_root = os.path.join(deployment.pipeline_root, RESUME_DIR, config.name)
    tuner = None
    if config.tuner.enabled:
        tuner = TrialTunerNode(
            config.tuner,
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            trainer_config=trainer_config,
            checkpoint_dir=os.path.join(checkpoint_root, "Tuner"),
        )
    trainer = Trainer(
        run_fn=RUN_FN,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        base_model=base_resolver.outputs["model"] if base_resolver else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        custom_config={
            **trainer_config,
            "decision": config.decision.model_dump(mode="json"),
            "code_hash": make_code_hash("components.trainer.run_fn"),
            "checkpoint_dir": os.path.join(checkpoint_root, "Trainer"),
            **deployment.trainer_job,
        },
    )
    trainer.executor_spec = ExecutorClassSpec(deployment.trainer_executor)
    if weights_mirror:
        for node in filter(None, [tuner, trainer]):
            node.add_upstream_node(weights_mirror)
    model = trainer.outputs["model"]
    model_resolver = deployment.make_resolver(LatestBlessedOtherModelStrategy, {CANDIDATE_KEY: model})
    model_resolver.with_id("ModelResolver")
    drift_validator = DriftValidator(
        model=model,
        baseline_model=model_resolver.outputs["model"],
        settings=config.drift.model_dump_json(),
        code_hash=make_code_hash(DriftValidator.__module__),
    )
    predictor = Predictor(
        examples=examples,
        model=model,
        baseline_model=model_resolver.outputs["model"],
        code_hash=make_code_hash(Predictor.__module__),
    )
    predictions = predictor.outputs["predictions"]
    serving_validator = ServingValidator(
        model=model,
        examples=examples,
        predictions=predictions,
        transform_graph=transform.outputs["transform_graph"],
        settings=config.serving_validator.model_dump_json(),
        code_hash=make_code_hash(ServingValidator.__module__),
    )
    # After all that may refuse: the Pusher, the resolvers and Vertex AI's queries see its blessing alone.
    evaluator = make_evaluator(
        config.evaluator,
        examples=examples,
        schema=schema,
        model=model,
        baseline_model=model_resolver.outputs["model"],
        drift=drift_validator.outputs["drift"],
        infra_blessing=serving_validator.outputs["blessing"],
    )
    # The pushed model carries what it met on test; the `model` artifact is the Trainer's, which sees no test split.
    pusher = deployment.make_pusher(model=model, model_blessing=evaluator.outputs["blessing"], predictions=predictions)
    model_converter = None
    if config.export.formats:
        # After the push, which waits for no format.
        model_converter = ModelConverter(
            examples=examples,
            model=model,
            predictions=predictions,
            pushed_model=pusher.outputs["pushed_model"],
            settings=config.export.model_dump_json(),
            code_hash=make_code_hash(ModelConverter.__module__, CLIENT_MODULE),
        )
    # After the Evaluator and beside the Pusher: a model that is refused needs its report most.
    report_gen = ReportGen(
        evaluation=evaluator.outputs["evaluation"],
        predictions=predictions,
        examples=examples,
        model=model,
        model_run=trainer.outputs["model_run"],
        transform_graph=transform.outputs["transform_graph"],
        statistics=statistics,
        anomalies=example_validator.outputs["anomalies"],
        drift=drift_validator.outputs["drift"],
        infra_blessing=serving_validator.outputs["blessing"],
        **({"tuner_results": tuner.outputs["tuner_results"]} if tuner else {}),
        **({FORMATS_KEY: model_converter.outputs[FORMATS_KEY]} if model_converter else {}),
        settings=config.report,
        config=settings,
    )
    components = [
        example_gen,
        statistics_gen,
        schema_gen,
        example_validator,
        transform,
        *([base_resolver] if base_resolver else []),
        *([weights_mirror] if weights_mirror else []),
        *([tuner] if tuner else []),
        trainer,
        model_resolver,
        drift_validator,
        predictor,
        serving_validator,
        evaluator,
        pusher,
        *([model_converter] if model_converter else []),
        report_gen,
    ]
    for component in components:
        if beam_args := deployment.node_beam_args.get(component.id):
            component.with_beam_pipeline_args(beam_args)
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=deployment.pipeline_root,
        components=components,
        enable_cache=deployment.enable_cache,
        beam_pipeline_args=list(deployment.beam_pipeline_args),
        metadata_connection_config=(
            metadata.sqlite_metadata_connection_config(deployment.metadata_path) if deployment.metadata_path else None
        ),
    )


def _without_mirror(config: PipelineConfig) -> dict[str, Any]:
    """Returns the settings as JSON values, but for `trainer.weights_mirror`."""
    return config.model_dump(mode="json", exclude={"trainer": {"weights_mirror"}})
