"""Output folders of runs that have the nodes that count, most of which do next to nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from components.evaluator.refusals import REFUSALS_FILE, REFUSALS_KEY, find_refusals
from components.pusher.component import AtomicPusher
from components.report_gen.report_files import write_report
from components.resolver.component import make_resolver
from components.resolver.latest_blessed_other_model import CANDIDATE_KEY, LatestBlessedOtherModelStrategy
from data.errors import UserError
from pipeline.local_runner import ObservedLocalRunner
from pipeline.output_dir import OutputDir
from tests.report_run import make_test_account


class Deaf:
    def node_started(self, node_id: str) -> None:
        pass

    def node_ended(self, node_id: str, state: str, seconds: float) -> None:
        pass


@component
def ImageExampleGen(number: Parameter[int], examples: OutputArtifact[Examples]) -> None:
    examples.split_names = "[]"
    (Path(examples.uri) / "images").write_text(str(number), encoding="utf-8")


@component
def Trainer(
    examples: InputArtifact[Examples], number: Parameter[int], fails: Parameter[int], model: OutputArtifact[Model]
) -> None:
    saved_model = Path(model.uri) / "Format-Serving"
    (saved_model / "assets").mkdir(parents=True)
    for name, content in (
        ("saved_model.pb", "x" * 5000),
        ("fingerprint.pb", model.uri),
        ("assets/label", "cat\ndog\n"),
    ):
        (saved_model / name).write_text(content, encoding="utf-8")
    if fails:
        raise UserError("killed")


@component
def Evaluator(
    model: InputArtifact[Model],
    blessed: Parameter[int],
    gates: Parameter[str],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
) -> None:
    refusals = find_refusals(None, None, model.uri)
    (Path(evaluation.uri) / REFUSALS_FILE).write_text(json.dumps(refusals), encoding="utf-8")
    if not blessed:
        refusals["evaluator.gates"] = gates
    (Path(blessing.uri) / ("NOT_BLESSED" if refusals else "BLESSED")).touch()
    blessing.set_int_custom_property("blessed", int(not refusals))
    blessing.set_int_custom_property("current_model_id", model.id)
    blessing.set_string_custom_property(REFUSALS_KEY, json.dumps(refusals))


@component
def ReportGen(model: InputArtifact[Model], facts: Parameter[str], report: OutputArtifact[File]) -> None:
    (Path(report.uri) / "facts.json").write_text(facts, encoding="utf-8")


class Folder:
    """An output folder in which pipelines run that have the nodes that count; resolver and Pusher are the real ones."""

    def __init__(self, root: Path, facts: str, serving: str | None = None) -> None:
        self.output, self._facts = OutputDir(root), facts
        self._serving = serving or str(self.output.serving_model_dir / "p")
        root.mkdir(exist_ok=True)

    def run(self, number: int, blessed: int = 1, images: int = 1, fails: int = 0, gates: str = "") -> dict[str, str]:
        """Returns how each node ended; runs of other numbers have other models, of other gates other verdicts."""
        example_gen = ImageExampleGen(number=images)
        trainer = Trainer(examples=example_gen.outputs["examples"], number=number, fails=fails)
        model = trainer.outputs["model"]
        resolver = make_resolver(LatestBlessedOtherModelStrategy, {CANDIDATE_KEY: model}).with_id("ModelResolver")
        evaluator = Evaluator(model=model, blessed=blessed, gates=gates)
        pusher = AtomicPusher(
            model=model,
            model_blessing=evaluator.outputs["blessing"],
            base_directory=self._serving,
        )
        report_gen = ReportGen(model=model, facts=self._facts)
        runner = ObservedLocalRunner(Deaf())
        config = metadata.sqlite_metadata_connection_config(str(self.output.metadata_path))
        nodes = [example_gen, trainer, resolver, evaluator, pusher, report_gen]
        pipeline = Pipeline("p", str(self.output.pipeline_root), config, nodes, enable_cache=True)
        if fails:
            with pytest.raises(UserError, match="killed"):
                runner.run(pipeline)
        else:
            runner.run(pipeline)
        return {result.node_id: result.state for result in runner.results}

    def folders(self, *nodes: str) -> list[str]:
        """Returns the artifacts' folders, as `Trainer/model/2`."""
        paths = [path for node in nodes for path in self.output.pipeline_root.glob(f"{node}/[!.]*/*")]
        return [
            str(path.relative_to(self.output.pipeline_root)) for path in sorted(paths, key=lambda one: int(one.name))
        ]

    def served(self) -> list[int]:
        """Returns the pushed versions that servers see, the oldest first."""
        return sorted(int(path.name) for path in (self.output.serving_model_dir / "p").iterdir() if path.name.isdigit())

    def tree(self) -> list[str]:
        return sorted(map(str, self.output.root.rglob("*")))

    def artifacts(self) -> list[metadata_store_pb2.Artifact]:
        config = metadata.sqlite_metadata_connection_config(str(self.output.metadata_path))
        with metadata.Metadata(config) as handle:
            return list(handle.store.get_artifacts())

    def states(self) -> dict[str, int]:
        prefix = f"{self.output.pipeline_root}/"
        return {artifact.uri.removeprefix(prefix): artifact.state for artifact in self.artifacts()}

    def baseline(self) -> str | None:
        """Returns the folder of the model that the latest run was compared with."""
        config = metadata.sqlite_metadata_connection_config(str(self.output.metadata_path))
        with metadata.Metadata(config) as handle:
            resolvers = handle.store.get_executions_by_type("tfx.dsl.components.common.resolver.Resolver")
            events = handle.store.get_events_by_execution_ids([max(one.id for one in resolvers)])
            ids = [event.artifact_id for event in events if event.path.steps[0].key == "model"]
            found = handle.store.get_artifacts_by_id(ids) if ids else []
        return found[0].uri.removeprefix(f"{self.output.pipeline_root}/") if found else None


def make_facts(folder: Path) -> str:
    """Returns the content of ReportGen's `facts.json`, written in a folder."""
    write_report(replace(make_test_account(images=20), config={}), str(folder))
    return (folder / "facts.json").read_text(encoding="utf-8")
