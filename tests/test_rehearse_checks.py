"""What is refused before anything runs: unreadable specs, what run_vertex never compiles, wrong types, cycles."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.image_example_gen.executor import DATA_SETTINGS_KEY
from pipeline.rehearsal.checks import DATA_SETTINGS
from pipeline.rehearse import main
from tests.tiny_spec import BLESSING, MODEL, WRITE_MODEL, TinySpec, container


def two_tasks() -> TinySpec:
    spec = TinySpec()
    spec.add("Trainer", container(WRITE_MODEL), outputs={"model": MODEL}, parameters={"steps": ("NUMBER_INTEGER", 3)})
    spec.add("Pusher", container(""), inputs={"model": ("Trainer", "model", MODEL)})
    return spec


def unknown_field(spec: TinySpec) -> None:
    spec.task("Trainer")["retries"] = 3


def unknown_field_of_a_container(spec: TinySpec) -> None:
    spec.spec["deploymentSpec"]["executors"]["Trainer"]["container"]["imagePullPolicy"] = "Always"


def wrong_artifact_type(spec: TinySpec) -> None:
    spec.spec["components"]["Pusher"]["inputDefinitions"]["artifacts"]["model"]["artifactType"] = BLESSING


def wrong_parameter(spec: TinySpec) -> None:
    spec.task("Trainer")["inputs"]["parameters"]["steps"]["runtimeValue"]["constant"] = "many"


def cycle(spec: TinySpec) -> None:
    spec.task("Trainer")["dependentTasks"] = ["Pusher"]


def unknown_placeholder(spec: TinySpec) -> None:
    spec.spec["deploymentSpec"]["executors"]["Trainer"]["container"]["args"] = ["{{$.inputs.artifacts['x'].uri}}"]


def bad_query(spec: TinySpec) -> None:
    query = "color=blue"
    spec.add(
        "Resolver", {"resolver": {"outputArtifactQueries": {"model": {"filter": query}}}}, outputs={"model": MODEL}
    )


def loop(spec: TinySpec) -> None:
    spec.task("Trainer")["parameterIterator"] = {"items": {"raw": "[1]"}, "itemInput": "i"}


def unknown_component(spec: TinySpec) -> None:
    spec.task("Pusher")["componentRef"]["name"] = "Nobody"


def unknown_executor(spec: TinySpec) -> None:
    del spec.spec["deploymentSpec"]["executors"]["Trainer"]


def unknown_producer(spec: TinySpec) -> None:
    spec.task("Pusher")["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] = "Nobody"


def missing_input(spec: TinySpec) -> None:
    del spec.task("Trainer")["inputs"]["parameters"]["steps"]


def bad_name(spec: TinySpec) -> None:
    spec.spec["pipelineInfo"]["name"] = "../Up"


def other_lane(spec: TinySpec) -> None:
    spec.spec["sdkVersion"] = "tfx-9.9.1"


def old_schema(spec: TinySpec) -> None:
    spec.spec["schemaVersion"] = "1.0"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (unknown_field, 'no field named "retries"'),
        (unknown_field_of_a_container, 'no field named "imagePullPolicy"'),
        (
            wrong_artifact_type,
            "declares its input 'model' as tfx.ModelBlessing, but the output 'model' of 'Trainer' is tfx.Model",
        ),
        (wrong_parameter, "has the parameter 'steps' = 'many', but its component declares it as NUMBER_INTEGER"),
        (cycle, "the tasks wait for each other in a cycle: "),
        (unknown_placeholder, "has the placeholder {{$.inputs.artifacts['x'].uri}}, which is not rehearsed"),
        (bad_query, "has the query 'color=blue', which is not one of the two that run_vertex compiles"),
        (loop, "is a loop over items, which is not rehearsed"),
        (unknown_component, "names 'Nobody', which is not in it; compile it anew with run_vertex"),
        (unknown_executor, "names 'Trainer', which is not in it"),
        (unknown_producer, "names 'Nobody', which is not in it"),
        (missing_input, "task 'Trainer' lacks its input 'steps'"),
        (bad_name, "pipelineInfo.name is '../Up'; Vertex takes a-z, 0-9 and '-'"),
        (other_lane, "was compiled with tfx-9.9.1, and this environment is of the lane tfx-1."),
        (old_schema, "schemaVersion is '1.0', which is not rehearsed; run_vertex compiles 2.1.0"),
    ],
)
def test_a_broken_spec_is_one_clear_line(
    break_it: Callable[[TinySpec], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = two_tasks()
    break_it(spec)
    assert main([spec.write(tmp_path), "--output-dir", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not list(tmp_path.rglob("Trainer.log"))


@pytest.mark.parametrize(
    ("place", "found", "message"),
    [
        ("root.dag.tasks.Pusher.triggerPolicy.condition", "1 == 1", "a condition, which is not rehearsed"),
        (
            "root.dag.tasks.Pusher.triggerPolicy.strategy",
            "ALL_UPSTREAM_TASKS_COMPLETED",
            "an exit handler, which is not rehearsed",
        ),
        (
            "root.dag.tasks.Trainer.inputs.parameters.steps",
            {"taskFinalStatus": {"producerTask": "Pusher"}},
            "an exit handler's parameter, which is not rehearsed",
        ),
        (
            "deploymentSpec.executors.Trainer",
            {"importer": {"artifactUri": {"constant": "gs://a/b"}, "typeSchema": MODEL}},
            "an importer, which is not rehearsed",
        ),
        ("components.Trainer", {"dag": {"tasks": {}}}, "dag is a nested pipeline, which is not rehearsed"),
        (
            "root.inputDefinitions",
            {"parameters": {"share": {"parameterType": "NUMBER_DOUBLE"}}},
            "a list of the pipeline's parameters, which is not rehearsed",
        ),
        (
            "root.dag.tasks.Trainer.inputs.parameters.steps",
            {"componentInputParameter": "share"},
            "a parameter of the pipeline, which is not rehearsed",
        ),
        ("schemaVersion", "2.0.0", "schemaVersion is '2.0.0', which is not rehearsed; run_vertex compiles 2.1.0"),
        (
            "deploymentSpec.executors.Trainer.container.lifecycle",
            {"preCacheCheck": {"command": ["true"]}},
            "container.lifecycle is not rehearsed",
        ),
        (
            "components.Trainer.outputDefinitions.parameters",
            {"n": {"parameterType": "NUMBER_INTEGER"}},
            "components.Trainer.outputDefinitions.parameters is not rehearsed",
        ),
    ],
)
def test_what_run_vertex_never_compiles_is_named(
    place: str, found: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = two_tasks()
    *way, last = place.split(".")
    part = spec.spec
    for key in way:
        part = part.setdefault(key, {})
    part[last] = found
    assert main([spec.write(tmp_path), "--output-dir", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path}/spec.json: {place}")
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("spec.json", "{", "is not JSON"),
        ("spec.yaml", "pipelineInfo: {name: a}", "; YAML is not rehearsed, and run_vertex writes none"),
        ("spec.json", "[]", "is no pipeline spec"),
        ("spec.json", "{}", "is no pipeline spec: it has no pipelineInfo.name"),
        ("spec.json", '{"a": 1}', 'no field named "a"'),
    ],
)
def test_what_is_no_spec_is_one_clear_line(
    name: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert main([str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_a_spec_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 2
    assert "cannot be read as a pipeline spec: No such file or directory" in capsys.readouterr().err


def test_the_images_are_looked_for_where_the_node_has_them() -> None:
    assert DATA_SETTINGS == DATA_SETTINGS_KEY
