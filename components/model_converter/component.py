"""The ModelConverter node."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, InferenceResult, Model, PushedModel

from components.model_converter.judging import convert_and_judge, make_record
from components.model_converter.record import FORMATS_FILE
from components.model_converter.settings import ExportSettings
from components.progress import report_progress
from data.json_files import write_json

CLIENT_MODULE = "components.model_converter.classify"
"""Which is shipped as text, and not imported."""


@component
def ModelConverter(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    predictions: InputArtifact[InferenceResult],
    pushed_model: InputArtifact[PushedModel],
    formats: OutputArtifact[File],
    settings: Parameter[str],
    code_hash: Parameter[str],
) -> None:
    """Converts a model that was pushed into formats out of TensorFlow; one that is refused raises nothing.

    Args:
        examples: raw Examples with `train` and `test` splits.
        model: of this run.
        predictions: of the Predictor, what the model answered to the test split.
        pushed_model: of the Pusher, which says whether the model was pushed: it comes first, whatever formats take.
        formats: gets `formats.json`, and a folder for each format that was kept.
        settings: JSON of ExportSettings.
        code_hash: of this module and the client: part of the cache key.
    """
    chosen = ExportSettings.model_validate_json(settings)
    if pushed_model.get_string_custom_property("pushed_destination"):
        record = convert_and_judge(chosen, examples, model, predictions, formats.uri)
    else:
        record = make_record(chosen, "the model was not pushed")
        report_progress("no formats: the model was not pushed")
    write_json(os.path.join(formats.uri, FORMATS_FILE), record)
