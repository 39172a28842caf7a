"""The Predictor node."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from components.predictor.executor import write_predictions


@component
def Predictor(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    predictions: OutputArtifact[InferenceResult],
    code_hash: Parameter[str],
    baseline_model: InputArtifact[Model] = None,  # TFX reads `| None` as no input
) -> None:
    """Keeps what a model, and the last blessed one, answer to every test image, and the features that they saw.

    Args:
        examples: raw Examples with a `test` split.
        model: with the signature `embed_examples`, or `serving_examples` alone: then without embeddings.
        predictions: gets `predictions.parquet`, and `reference.json`, which a pushed model carries.
        code_hash: of this module: part of the cache key.
        baseline_model: the latest blessed model; may be empty at run time. One whose classes are others, or in another
            order, is left out.
    """
    write_predictions(examples, model, baseline_model, predictions.uri)
