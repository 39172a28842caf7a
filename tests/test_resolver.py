"""Which blessed model a warm start goes on from, on a real metadata store."""

from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.types import Artifact, standard_artifacts

from components.resolver.latest_blessed_base_model import LatestBlessedBaseModelStrategy


class Story:
    """A metadata store and what runs put into it."""

    def __init__(self, folder: Path) -> None:
        config = pb.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store, self._folder = MetadataStore(config), folder
        self._artifact_type = self.store.put_artifact_type(pb.ArtifactType(name="Thing"))
        self._execution_type = self.store.put_execution_type(pb.ExecutionType(name="Node"))
        self.models: list[Artifact] = []
        self.blessings: list[Artifact] = []

    def make(self, kind: type[Artifact]) -> Artifact:
        (new_id,) = self.store.put_artifacts([pb.Artifact(type_id=self._artifact_type)])
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

    def run(self, examples: Artifact, *, blessed: bool = True) -> Artifact | None:
        """Does what a run leaves behind, and returns the base that it was given."""
        base = self.resolve(examples)
        model, blessing = self.make(standard_artifacts.Model), self.make(standard_artifacts.ModelBlessing)
        self.execute({"examples": examples, **({"model": base} if base else {})}, {})  # the Resolver's
        baseline = {"baseline_model": self.models[-1]} if self.models else {}
        self.execute({"examples": examples, "model": model, **baseline}, {"blessing": blessing})
        blessing.set_int_custom_property("blessed", int(blessed))
        blessing.set_int_custom_property("current_model_id", model.id)
        self.models.append(model)
        self.blessings.append(blessing)
        return base

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
