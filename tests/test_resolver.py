"""Which blessed model a run is compared with, and a warm start goes on from, on a real metadata store."""

import logging
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.types import Artifact, standard_artifacts

from components.progress import LOGGER
from components.resolver.latest_blessed_base_model import LatestBlessedBaseModelStrategy
from components.resolver.latest_blessed_other_model import LatestBlessedOtherModelStrategy


class Story:
    """A metadata store and what runs put into it."""

    def __init__(self, folder: Path) -> None:
        config = pb.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store, self._folder = MetadataStore(config), folder
        self._execution_type = self.store.put_execution_type(pb.ExecutionType(name="Node"))
        self.models: list[Artifact] = []
        self.blessings: list[Artifact] = []

    def make(self, kind: type[Artifact]) -> Artifact:
        type_id = self.store.put_artifact_type(pb.ArtifactType(name=kind.TYPE_NAME))
        (new_id,) = self.store.put_artifacts([pb.Artifact(type_id=type_id)])
        artifact = kind()
        artifact.id, artifact.uri = new_id, str(self._folder / str(new_id))
        Path(artifact.uri).mkdir()
        return artifact

    def execute(self, inputs: dict[str, Artifact], outputs: dict[str, Artifact]) -> None:
        (execution,) = self.store.put_executions([pb.Execution(type_id=self._execution_type)])
        for kind, artifacts in ((pb.Event.INPUT, inputs), (pb.Event.OUTPUT, outputs)):
            for key, artifact in artifacts.items():
                event = pb.Event(type=kind, artifact_id=artifact.id, execution_id=execution)
                event.path.steps.add(key=key)
                self.store.put_events([event])

    def run(
        self, examples: Artifact, *, blessed: bool = True, early: bool = False, served: bool | None = None
    ) -> Artifact | None:
        """Does what a run leaves behind, and returns the base that it was given.

        Args:
            examples: ImageExampleGen's.
            blessed: the Evaluator's verdict.
            early: whether the run is of the time when that was its own gates' alone.
            served: the ServingValidator's; None where the run ended before it.
        """
        base = self.resolve(examples)
        model, blessing = self.make(standard_artifacts.Model), self.make(standard_artifacts.ModelBlessing)
        self.execute({"examples": examples, **({"model": base} if base else {})}, {})  # the Resolver's
        baseline = {"baseline_model": self.models[-1]} if self.models else {}
        self.execute({"examples": examples, "model": model, **baseline}, {"blessing": blessing})
        blessing.set_int_custom_property("blessed", int(blessed))
        blessing.set_int_custom_property("current_model_id", model.id)
        if not early:
            blessing.set_string_custom_property("refusals", "{}" if blessed else '{"drift.gate": "drifted"}')
        if served is not None:
            self.serve(model, passed=served)
        self.models.append(model)
        self.blessings.append(blessing)
        return base

    def serve(self, model: Artifact, *, passed: bool) -> None:
        """Does what a ServingValidator leaves behind."""
        blessing = self.make(standard_artifacts.InfraBlessing)
        self.execute({"model": model}, {"blessing": blessing})
        (stored,) = self.store.get_artifacts_by_id([blessing.id])
        stored.custom_properties["blessed"].int_value = int(passed)
        self.store.put_artifacts([stored])

    def baseline(self, candidate: Artifact) -> Artifact | None:
        inputs = {"model": list(self.models), "model_blessing": list(self.blessings), "candidate": [candidate]}
        found = LatestBlessedOtherModelStrategy().resolve_artifacts(self.store, inputs)
        assert found is not None
        return found["model"][0] if found.get("model") else None

    def resolve(self, examples: Artifact) -> Artifact | None:
        inputs = {"model": list(self.models), "model_blessing": list(self.blessings), "examples": [examples]}
        found = LatestBlessedBaseModelStrategy().resolve_artifacts(self.store, inputs)
        assert found is not None
        assert found["examples"] == [examples]
        return found["model"][0] if found.get("model") else None


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_unchanged_images_have_an_unchanged_base(story: Story) -> None:
    first, second = story.make(standard_artifacts.Examples), story.make(standard_artifacts.Examples)
    assert story.run(first) is None
    assert story.run(first) is None
    for _ in range(3):
        assert story.run(second) is story.models[1]


def test_new_images_go_on_from_the_latest_blessed_model(story: Story) -> None:
    examples = [story.make(standard_artifacts.Examples) for _ in range(3)]
    story.run(examples[0])
    story.run(examples[1], blessed=False)
    assert story.run(examples[2]) is story.models[0]


def test_a_model_whose_files_are_gone_is_no_base(story: Story) -> None:
    examples = [story.make(standard_artifacts.Examples) for _ in range(3)]
    story.run(examples[0])
    story.run(examples[1])
    Path(story.models[1].uri).rmdir()
    assert story.run(examples[2]) is story.models[0]


def test_a_blessed_model_that_is_gone_is_told(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    examples, candidate = story.make(standard_artifacts.Examples), story.make(standard_artifacts.Model)
    story.run(examples)
    story.run(examples)
    assert story.baseline(candidate) is story.models[1]
    assert not caplog.messages
    Path(story.models[1].uri).rmdir()
    assert story.baseline(candidate) is story.models[0]
    Path(story.models[0].uri).rmdir()
    assert story.baseline(candidate) is None
    gone = f"the latest blessed model cannot be found: {story.models[1].uri} is gone;"
    assert caplog.messages == [
        f"{gone} {story.models[0].uri} takes its place",
        f"{gone} no other was blessed: gates on change pass without it",
    ]


@pytest.mark.parametrize("served", [False, None])
def test_in_an_older_folder_a_model_that_the_serving_validator_did_not_bless_is_neither_baseline_nor_base(
    story: Story, served: bool | None
) -> None:
    """The drift gate was part of its verdict: what it refused must not be what this version compares with."""
    examples = [story.make(standard_artifacts.Examples) for _ in range(3)]
    story.run(examples[0], early=True, served=True)
    story.run(examples[1], early=True, served=served)
    assert story.run(examples[2], blessed=False) is story.models[0]
    for _ in range(2):  # The second is an unchanged run: its inputs are the same, and so served from cache.
        assert story.baseline(story.models[2]) is story.models[0]
    story.serve(story.models[1], passed=True)
    assert story.baseline(story.models[2]) is story.models[1]
    assert story.resolve(examples[2]) is story.models[1]


def test_without_a_model_that_passed_everything_there_is_no_baseline(story: Story) -> None:
    examples = story.make(standard_artifacts.Examples)
    story.run(examples, blessed=False, served=True)
    story.run(examples, blessed=False, early=True, served=True)
    story.run(examples, early=True, served=False)
    assert story.baseline(story.make(standard_artifacts.Model)) is None


def test_the_blessing_of_all_gates_asks_for_no_other(story: Story) -> None:
    examples = story.make(standard_artifacts.Examples)
    story.run(examples, early=True, served=True)
    story.run(examples, served=False)
    assert story.baseline(story.make(standard_artifacts.Model)) is story.models[1]
