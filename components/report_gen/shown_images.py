"""The images of the page: thumbnails under the budget, and Grad-CAM for those whose answers are questioned."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.types import standard_component_specs as specs

from components.exported_model.manifest import read_manifest
from components.predictor.executor import TEST_SPLIT
from components.predictor.predictions import Predictions
from components.progress import report_progress
from components.report_gen.grad_cam import make_heat_maps
from components.report_gen.settings import ReportSettings
from components.report_gen.thumbnails import ImageKey, make_heat_uri, make_thumbnails
from components.trainer.export import load_classifier
from components.trainer.transform_graph import TransformGraph
from components.transform.features import TRANSFORMED_IMAGE_KEY, unpack_images
from data.features import IMAGE_KEY

if TYPE_CHECKING:
    from components.report_gen.facts import Sources

_KIB = 1024


@dataclass(frozen=True)
class ShownImages:
    """What the page wants to show, the most wanted first.

    Attributes:
        explained: positions in the test split that get an overlay, too.
        listed: of the other lists.
        in_cells: seen only after a click on a cell of the matrix.
    """

    explained: list[int]
    listed: list[ImageKey]
    in_cells: list[ImageKey]


def show_images(
    sources: "Sources", settings: ReportSettings, predictions: Predictions, shown: ShownImages
) -> dict[str, Any]:
    """Makes thumbnails and overlays.

    Returns:
        `thumbnails`: "split:position" to a data URI; `heat`: "split:position" to the overlay's, for images with a
        thumbnail; `heat_layer`: the layer that they come from, None without a model to ask.
    """
    report_progress("thumbnails")
    wanted = [(TEST_SPLIT, i) for i in shown.explained] + shown.listed + shown.in_cells
    thumbnails, originals = make_thumbnails(sources.examples, wanted, settings.image_kib * _KIB)
    explained = [i for i in dict.fromkeys(shown.explained) if (TEST_SPLIT, i) in originals]
    model_uri, graph_uri = (sources.uris.get(key) for key in (specs.MODEL_KEY, specs.TRANSFORM_GRAPH_KEY))
    manifest = read_manifest(model_uri) if model_uri else None
    if not explained or graph_uri is None or model_uri is None or manifest is None:
        return {"thumbnails": thumbnails}
    report_progress("Grad-CAM")
    graph = TransformGraph(tft.TFTransformOutput(graph_uri))
    encoded = tf.constant([originals[TEST_SPLIT, i] for i in explained])
    packed = graph.apply({IMAGE_KEY: graph.as_raw_feature(IMAGE_KEY, encoded)})[TRANSFORMED_IMAGE_KEY]
    images = unpack_images(packed, manifest.image_size).numpy()
    model = load_classifier(model_uri, manifest)
    heat, layer = make_heat_maps(model, images, predictions.predicted[np.array(explained)].tolist())
    return {
        "thumbnails": thumbnails,
        "heat": {f"{TEST_SPLIT}:{i}": make_heat_uri(one) for i, one in zip(explained, heat, strict=True)},
        "heat_layer": layer,
    }
