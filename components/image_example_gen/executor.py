"""Runs ImageExampleGen: check every image, decide on all of them, write the examples."""

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from components.image_example_gen import QUARANTINE_FILE, SUMMARY_FILE
from components.image_example_gen.alike import find_alike
from components.image_example_gen.check import add_check, collect_statistics, read_records
from components.image_example_gen.examples import UNREAD_FILE, add_examples, write_rules
from components.progress import report_progress
from data import gfile
from data.bit_depth import WHOLE, write_bit_depth
from data.class_names import describe_similar
from data.corrections import CORRECTIONS_FILE, describe_corrections
from data.corrections_file import corrected_fingerprint, read_corrections
from data.errors import UserError
from data.extras import write_extras
from data.features import SPLITS, WEIGHT_KEY
from data.files import remove_path
from data.groups import describe_groups
from data.image_figures import ImageFigures
from data.image_hashes import make_image_hashes, split_hashes_file, write_image_hashes
from data.image_statistics import write_image_statistics
from data.json_files import find_json, write_json
from data.originals import ORIGINALS_DIR
from data.selection_check import check_selection, describe_unjudged
from data.settings import DataSettings
from data.sources import make_source
from data.sources.reading import count_listed
from data.sources.relabelled import read_notes
from data.spans import Span, describe_spans, make_span_facts
from data.split_origins import describe_split_origins
from data.splits import Selection, choose_images

_LOGGER = logging.getLogger(__name__)

DATA_SETTINGS_KEY = "data_settings"
SOURCE_FINGERPRINT_KEY = "source_fingerprint"
CODE_HASH_KEY = "code_hash"
EXAMPLES_KEY = "examples"

_SHOWN_IGNORED = 5


class ImageExampleGenExecutor(base_beam_executor.BaseBeamExecutor):
    """Two Beam jobs with a decision between them; every image is read twice, so that none has to be kept anywhere."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples, and beside them what `ImageExampleGen` lists.

        Raises:
            UserError: the source cannot be read, its images do not do (see `choose_images` and `check_selection`), or
                they changed between the two jobs.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = DataSettings.model_validate_json(exec_properties[DATA_SETTINGS_KEY])
        artifact = artifact_utils.get_single_instance(output_dict[EXAMPLES_KEY])
        artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
        source = make_source(settings)
        spans: tuple[Span, ...] = getattr(source, "spans", ())
        if spans:
            report_progress(f"spans: {describe_spans(make_span_facts(spans))}", lasting=True)
        ignored = source.prepare()
        for note in read_notes(source):
            report_progress(note, lasting=True)
        fingerprint = corrected_fingerprint(source.fingerprint(), settings.corrections)

        work_dir = os.path.join(artifact.uri, "work")
        split_dirs = {split: artifact_utils.get_split_uri([artifact], split) for split in SPLITS}
        # A killed attempt at the same place may have left shards of another count, which would be read with the new.
        for folder in (work_dir, *split_dirs.values(), os.path.join(artifact.uri, ORIGINALS_DIR)):
            remove_path(folder)
        tf.io.gfile.makedirs(work_dir)
        report_progress("checking images")
        keeps_alike = settings.near_duplicates == "keep_together"
        with self._make_beam_pipeline() as pipeline:
            add_check(pipeline, source, settings.max_pixels, work_dir, count_listed(source), keeps_alike)
        alike = find_alike(work_dir) if keeps_alike else {}
        corrections = read_corrections(settings.corrections) if settings.corrections else None
        selection = choose_images(read_records(work_dir), settings, alike, corrections)
        for name, reason in selection.quarantined:
            _LOGGER.warning("quarantined: %s: %s", name, reason)
        try:
            check_selection(selection, settings)
        except UserError as mistake:  # TFX removes the artifact of a node that fails; the list must survive
            raise UserError(
                str(mistake), {**_facts(selection, ignored, spans), "quarantine": _quarantine(selection)}
            ) from None

        report_progress("writing examples")
        rules_path = os.path.join(work_dir, "rules.json")
        write_rules(selection.rules, rules_path)
        try:
            with self._make_beam_pipeline() as pipeline:
                add_examples(
                    pipeline, source, settings.max_pixels, rules_path, artifact.uri, split_dirs, selection.images_read
                )
            if unread := find_json(os.path.join(work_dir, UNREAD_FILE)):
                raise UserError(f"data.path: {unread}")
        finally:  # Bytes that nobody checked can also end the second job: the cause is told, not what follows from it.
            if corrected_fingerprint(source.fingerprint(), settings.corrections) != fingerprint:
                raise UserError(
                    f"data.path is {settings.path}, where images came, went or changed while they were read"
                    f"{', or data.corrections' if settings.corrections else ''}; run again when nothing writes there"
                )
        write_image_statistics(collect_statistics(work_dir, selection.rules, kept := ImageFigures()), artifact.uri)
        kept.write(artifact.uri)
        tf.io.gfile.rmtree(work_dir)

        examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(artifact, "tfrecords_gzip")
        _write_summary(selection, ignored, artifact.uri, spans)
        if settings.corrections:
            gfile.copy(settings.corrections, os.path.join(artifact.uri, CORRECTIONS_FILE))
        report_progress(_summary_line(selection), lasting=True)
        if similar := describe_similar(selection.counts["train"]):
            report_progress(similar, lasting=True)
        if unjudged := describe_unjudged(selection.counts):
            report_progress(unjudged, lasting=True)
        if origins := describe_split_origins(selection.origins):
            report_progress(f"splits: {origins}", lasting=True)
        if groups := describe_groups(selection.groups):
            report_progress(f"groups: {groups}", lasting=True)
        if selection.corrections:
            report_progress(f"labels: {describe_corrections(selection.corrections)}", lasting=True)


def _write_summary(selection: Selection, ignored: Sequence[str], uri: str, spans: Sequence[Span]) -> None:
    with tf.io.gfile.GFile(os.path.join(uri, QUARANTINE_FILE), "w") as file:
        # Also where there are none: the file is always there.
        file.write("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in _quarantine(selection)))
    write_bit_depth(selection.rules.bit_depth, uri)
    write_extras(selection.rules.extras, uri)
    write_json(os.path.join(uri, SUMMARY_FILE), _facts(selection, ignored, spans))
    for split, sha256s in selection.content_hashes.items():
        write_image_hashes(make_image_hashes(sha256s), os.path.join(uri, split_hashes_file(split)))


def _quarantine(selection: Selection) -> list[dict[str, str]]:
    return [{"file": name, "reason": reason} for name, reason in selection.quarantined]


def _facts(selection: Selection, ignored: Sequence[str], spans: Sequence[Span]) -> dict[str, Any]:
    return {
        "counts": selection.counts,
        "quarantined": len(selection.quarantined),
        "left_out": selection.left_out,
        "duplicates_dropped": selection.duplicates_dropped,
        "reencoded": selection.reencoded,
        "images_read": selection.images_read,
        "bit_depth": selection.rules.bit_depth,
        "ignored": {"number": len(ignored), "names": list(ignored[:_SHOWN_IGNORED])},
        "split_origins": selection.origins,
        **({"spans": make_span_facts(spans)} if spans else {}),
        **({"groups": selection.groups} if selection.groups else {}),
        **({"weighted": True} if WEIGHT_KEY in selection.rules.extras else {}),
        **({"corrections": selection.corrections} if selection.corrections else {}),
    }


def _summary_line(selection: Selection) -> str:
    counts = ", ".join(f"{split} {sum(selection.counts[split].values()):,}" for split in SPLITS)
    depth = selection.rules.bit_depth
    deep = f"; those of 16 bits use {depth}" if depth < WHOLE else ""
    left_out = f"; {sum(selection.left_out.values()):,} left out (data.labels)" if selection.left_out else ""
    return f"{selection.images_read:,} images: {counts}; {len(selection.quarantined)} quarantined{left_out}{deep}"
