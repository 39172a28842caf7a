"""What the pipeline starts from, as far as Vertex AI can see it: images, weights, files."""

import hashlib
from dataclasses import dataclass

from components.trainer.backbones import BACKBONES
from components.trainer.weights import ResolvedWeights
from data.corrections_file import corrected_fingerprint
from data.detect import settings_for_name
from data.errors import UserError
from data.files import is_remote, read_bytes
from data.source_kinds import SOURCES
from data.spans import has_span
from pipeline.config import DataChoice, PipelineConfig, name_from_path
from pipeline.vertex.dataflow import placement_of
from pipeline.vertex.settings import VertexSettings

NOT_CACHED = "not-cached"


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes:
        fingerprint: of the images.
        weights: what training starts from.
        uncached: nodes whose input's state is not known when the spec is made: they must never be served from cache.
        notes: what the user should know about all this.
    """

    fingerprint: str
    weights: ResolvedWeights
    uncached: tuple[str, ...]
    notes: tuple[str, ...]


def data_choice(path: str | None) -> DataChoice | None:
    """Returns what `--data` stands for, from the name alone: nothing is listed, which would take a network.

    Raises:
        UserError: it is not in a bucket.
    """
    if path is None:
        return None
    if not path.startswith("gs://"):
        raise UserError(f"--data is {path}, which Vertex AI cannot see; copy it into a bucket and give its gs:// path")
    return DataChoice(name_from_path(path), settings_for_name(path))


def find_inputs(config: PipelineConfig, settings: VertexSettings, *, offline: bool) -> Inputs:
    """Looks up what a run reads, as far as that can be done.

    Args:
        config: names the inputs.
        settings: where they are read from.
        offline: whether nothing may be asked of a network.

    Raises:
        UserError: an input is on this machine, where Vertex AI cannot see it, or cannot be read.
    """
    check_places(config, settings)
    if offline and config.schema_path:
        raise UserError(f"schema_path is {config.schema_path}, which --compile-only cannot read; leave out one of them")
    uncached, notes = [], []
    data = config.data
    if settings.data_manifest and settings.schedule.cron:
        raise UserError(
            f"data_manifest is {settings.data_manifest}, which is read once, when the schedule is made: later runs "
            "would be served today's images from cache; leave it out, and each run reads the images anew"
        )
    if settings.data_manifest and has_span(data.path):
        raise UserError(
            f"data_manifest is {settings.data_manifest}, and data.path is {data.path}, whose newest spans each run"
            " looks for: a run that is started again would be served the old ones from cache; leave the manifest out"
        )
    if settings.data_manifest:
        if offline and is_remote(settings.data_manifest):
            raise UserError(
                f"data_manifest is {settings.data_manifest}, which --compile-only cannot read; copy it here"
            )
        fingerprint = _hash_manifest(settings.data_manifest)
    elif data.path is not None:
        fingerprint = NOT_CACHED
        uncached.append("ImageExampleGen")
        notes.append(
            f"ImageExampleGen reads {data.path} anew in each run: Vertex AI's cache would not see a change there; list "
            "the images in a file and give it as data_manifest to have it cached"
        )
    else:
        from data.sources import make_source

        fingerprint = make_source(data).fingerprint()
    if data.corrections and not uncached:
        if offline or settings.schedule.cron:
            uncached.append("ImageExampleGen")
            notes.append(f"ImageExampleGen is not cached: whether {data.corrections} has changed by then is not known")
        else:
            fingerprint = corrected_fingerprint(fingerprint, data.corrections)
    weights = config.trainer.weights
    if weights == "auto":
        resolved = ResolvedWeights("none")
        notes.append(
            "trainer.weights is auto, which is none here; set it to imagenet to have the Trainer download them"
        )
    elif weights == "none":
        resolved = ResolvedWeights("none")
    elif weights == "imagenet":
        # The Trainer downloads them, and checks them against the same hash.
        resolved = ResolvedWeights("imagenet", None, BACKBONES[config.trainer.backbone].weights_hash)
        uncached.append("WeightsMirror")  # where there is one: it looks whether the file is there
    elif offline or settings.schedule.cron:
        resolved = ResolvedWeights(weights, weights)
        uncached.append("Trainer")
        notes.append(f"the Trainer is not cached: whether {weights} has changed by then is not known now")
    else:
        from components.trainer.weights import resolve_weights

        resolved = resolve_weights(weights, config.trainer.backbone)
    return Inputs(fingerprint, resolved, tuple(uncached), tuple(notes))


def _hash_manifest(path: str) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except Exception as error:  # TensorFlow's file systems have errors of their own.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"data_manifest is {path}, which cannot be read: {reason}") from error


def check_places(config: PipelineConfig, settings: VertexSettings) -> None:
    """Refuses paths of this machine.

    Raises:
        UserError: names the setting and the path.
    """
    weights = config.trainer.weights
    places = {
        "data.path": config.data.path,
        "data.class_names": config.data.class_names,
        **{f"data.uri_map.{uri}": folder for uri, folder in config.data.uri_map.items()},
        "data.corrections": config.data.corrections,
        "schema_path": config.schema_path,
        "serving_model_dir": config.serving_model_dir,
        "trainer.weights": None if weights in ("auto", "imagenet", "none") else weights,
    }
    for name, path in places.items():
        if path is not None and not path.startswith("gs://"):
            raise UserError(
                f"{name} is {path}, which Vertex AI cannot see; copy it into a bucket and give its gs:// path"
            )
    mirror = config.trainer.weights_mirror
    if mirror is not None and mirror.startswith("file:"):
        raise UserError(
            f"trainer.weights_mirror is {mirror}, which Vertex AI cannot see; copy the folder into a bucket and give "
            "its gs:// path"
        )
    example_gen = placement_of(settings, "ImageExampleGen")
    source = config.data.source
    if SOURCES[source].path == "or_download" and config.data.path is None and example_gen.runner == "dataflow":
        raise UserError(
            f"data.source is {source} without data.path, which is downloaded to one machine, not to Dataflow's workers;"
            " copy the archive into a bucket and give its gs:// path, or set beam.components.ImageExampleGen.runner to "
            "direct"
        )
    if config.serving_model_dir and settings.endpoint.name:
        raise UserError(
            f"serving_model_dir is {config.serving_model_dir} and endpoint.name is {settings.endpoint.name}; the model "
            "is pushed to one place, leave one out"
        )
