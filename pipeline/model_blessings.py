"""Takes a model's blessing back, or gives it again, where its output folder keeps it: metadata and files alike."""

import json
import os
from pathlib import Path
from typing import Any

from ml_metadata.proto.metadata_store_pb2 import Artifact, Event
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs as specs

from components.evaluator.refusals import REFUSALS_FILE, REFUSALS_KEY, read_refusals
from components.evaluator.rollback import ROLLBACK_GATE, Rollback, remove_rollback, write_rollback
from data.json_files import write_json
from pipeline.clean_needs import Metadata, is_output_event, read_metadata
from pipeline.local_runner import PUSHED_DESTINATION
from pipeline.output_dir import OutputDir
from pipeline.report_lineage import open_store

_BLESSED = constants.ARTIFACT_PROPERTY_BLESSED_KEY


class ModelBlessings:
    """The verdicts on the models of an output folder, which the caller has locked if it changes any.

    The blessing's property is what Pusher and resolvers see, its `refusals`, and those of the evaluation, what screen,
    summary and report tell; the record in the model's folder makes a later evaluation refuse the model, too.
    """

    def __init__(self, output: OutputDir) -> None:
        """Reads the metadata.

        Raises:
            UserError: they are damaged.
        """
        self.output = output
        self._store: Any = open_store(output.metadata_path)
        self.known: Metadata = read_metadata(self._store)

    @property
    def place(self) -> str:
        """The output folder."""
        return str(self.output.root)

    def find_pushes(self) -> dict[str, list[Artifact]]:
        """Returns each version's folder, as it lies now, to the `pushed_model` artifacts that name it."""
        pushes: dict[str, list[Artifact]] = {}
        for artifact in self.known.artifacts.values():
            if destination := _text(artifact, PUSHED_DESTINATION):
                pushes.setdefault(self.output.rebase_destination(destination, artifact.uri), []).append(artifact)
        return pushes

    def find_models(self, version_path: str) -> set[int]:
        """Returns the ids of what was pushed to a version's folder: of one model, or none that is known here."""
        makers = {
            maker
            for artifact in self.find_pushes().get(version_path, ())
            for maker in self.known.makers_of(artifact.id)
        }
        return {
            event.artifact_id
            for event in self.known.events
            if event.execution_id in makers and not is_output_event(event) and _key(event) == specs.MODEL_KEY
        }

    def describe_model(self, model_id: int) -> str:
        """Returns the model's folder, from that of the outputs."""
        return self._place(model_id).removeprefix(f"{self.output.root}/")

    def is_blessed(self, model_id: int) -> bool:
        """Says whether the Evaluator blessed a model, and would still without a rollback."""
        blessings = self._find_verdicts(model_id)
        return any(_is_blessed(one) or list(_refusals(one)) == [ROLLBACK_GATE] for one, _ in blessings)

    def take_back(self, model_id: int, rollback: Rollback) -> None:
        """Refuses a blessed model after all; done again, it changes nothing more."""
        if os.path.isdir(self._place(model_id)):
            write_rollback(self._place(model_id), rollback)
        changed = []
        for blessing, evaluation in self._find_verdicts(model_id):
            if _is_blessed(blessing):
                self._judge(blessing, evaluation, {**_refusals(blessing), ROLLBACK_GATE: rollback.describe()})
                changed.append(blessing)
        if changed:  # in one transaction
            self._store.put_artifacts(changed)

    def give_back(self, model_id: int) -> None:
        """Undoes `take_back`; what a gate refused stays refused."""
        changed = []
        for blessing, evaluation in self._find_verdicts(model_id):
            refusals = _refusals(blessing)
            if refusals.pop(ROLLBACK_GATE, None) is not None:
                self._judge(blessing, evaluation, refusals)
                changed.append(blessing)
        if changed:
            self._store.put_artifacts(changed)
        remove_rollback(self._place(model_id))

    def _judge(self, blessing: Artifact, evaluation: Artifact | None, refusals: dict[str, str]) -> None:
        """Writes a verdict into the files, and into the artifact, which is not stored yet."""
        blessing.custom_properties[REFUSALS_KEY].string_value = json.dumps(refusals, ensure_ascii=False)
        blessing.custom_properties[_BLESSED].int_value = int(not refusals)
        names = [constants.NOT_BLESSED_FILE_NAME, constants.BLESSED_FILE_NAME]
        after, before = sorted(names, key=lambda name: (name == names[0]) is not bool(refusals))
        folder = Path(self._place(blessing.id))
        if (folder / before).exists():
            os.replace(folder / before, folder / after)
        if evaluation is None or not os.path.isdir(place := self._place(evaluation.id)):  # cleaned
            return
        others = {gate: found for gate, found in read_refusals(place).items() if gate != ROLLBACK_GATE}
        mine = {ROLLBACK_GATE: refusals[ROLLBACK_GATE]} if ROLLBACK_GATE in refusals else {}
        write_json(os.path.join(place, REFUSALS_FILE), {**others, **mine})

    def _find_verdicts(self, model_id: int) -> list[tuple[Artifact, Artifact | None]]:
        """Returns each blessing of a model, with the evaluation that it comes from."""
        judges = [
            event.execution_id
            for event in self.known.events
            if event.artifact_id == model_id and not is_output_event(event) and _key(event) == specs.MODEL_KEY
        ]
        made: dict[int, dict[str, Artifact]] = {}
        for event in self.known.events:
            if event.execution_id in judges and is_output_event(event):
                artifact = self.known.artifacts[event.artifact_id]
                made.setdefault(event.execution_id, {})[artifact.type] = artifact
        blessing, evaluation = standard_artifacts.ModelBlessing.TYPE_NAME, standard_artifacts.ModelEvaluation.TYPE_NAME
        found = [(outputs[blessing], outputs.get(evaluation)) for outputs in made.values() if blessing in outputs]
        return list({pair[0].id: pair for pair in found}.values())  # The Evaluator served from cache gives the same.

    def _place(self, artifact_id: int) -> str:
        return self.output.rebase(self.known.artifacts[artifact_id].uri)


def _key(event: Event) -> str:
    return event.path.steps[0].key if event.path.steps else ""


def _is_blessed(blessing: Artifact) -> bool:
    return _BLESSED in blessing.custom_properties and blessing.custom_properties[_BLESSED].int_value == 1


def _refusals(blessing: Artifact) -> dict[str, str]:
    found: dict[str, str] = json.loads(_text(blessing, REFUSALS_KEY) or "{}")
    return found


def _text(artifact: Artifact, key: str) -> str:
    # To look a key up that is not there would put it there, and the store would keep that.
    return artifact.custom_properties[key].string_value if key in artifact.custom_properties else ""
