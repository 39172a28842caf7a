"""TFX's Evaluator, with an EvalConfig that is made when the model's classes are known."""

import json
import os
import tempfile
from typing import Any

from apache_beam.utils import shared
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as tfx_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils, proto_utils

from components.drift_validator.report import DRIFT_KEY
from components.evaluator.baseline import check_baseline, write_baseline
from components.evaluator.eval_config import make_eval_config
from components.evaluator.model_classes import write_evaluation_classes
from components.evaluator.refusals import REFUSALS_FILE, REFUSALS_KEY, find_refusals
from components.evaluator.results import read_results
from components.evaluator.settings import EvaluatorSettings
from components.exported_model.manifest import read_classes, read_manifest, saved_model_path
from components.image_example_gen.summary import count_images
from components.progress import ImageCount, report_progress
from components.record_batches import images_at_once, reading_in_batches, records_at_once

SETTINGS_KEY = "settings"
CODE_HASH_KEY = "code_hash"


class _Nothing:
    """Takes a model's place among Beam's shared objects."""


class Executor(tfx_executor.Executor):
    """Completes the parameters of TFX's own executor, which then does the work, and gives the verdict of all gates.

    The classes of a folder of images or of TFRecords are found in the run, by Transform; the figures and gates of
    single classes need them. Beside TFMA's files the evaluation gets `class_names.json`, since TFMA knows classes
    by index only, and `baseline.json`, which says whether the baseline has learned images of test: such a one is
    measured, but no gate compares with it, and `refusals.json`, which says what the gates before this node refused:
    such a model is measured, too, but not blessed.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and the baseline where there is one, and blesses the model or not.

        Args:
            input_dict: `examples`, `model`, and where there are such `baseline_model`, `drift` and `infra_blessing`.
            output_dict: `evaluation` and `blessing`; the latter gets TFX's file and property, and the property
                `refusals`: JSON of the gates that refused.
            exec_properties: `settings` (JSON of EvaluatorSettings) and `example_splits`.

        Raises:
            UserError: a gate on a class or a metric that this model does not have.
        """
        settings = EvaluatorSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        class_names = _class_names(input_dict[specs.MODEL_KEY])
        evaluation_uri = artifact_utils.get_single_uri(output_dict[specs.EVALUATION_KEY])
        baseline_class_names, compare = None, True
        if input_dict.get(specs.BASELINE_MODEL_KEY):
            baseline_class_names = _class_names(input_dict[specs.BASELINE_MODEL_KEY])
            if baseline_class_names != class_names:
                report_progress(
                    "the baseline has other classes: gates on the change of single classes do not apply", lasting=True
                )
            baseline = check_baseline(
                artifact_utils.get_single_uri(input_dict[specs.BASELINE_MODEL_KEY]),
                artifact_utils.get_single_uri(input_dict[specs.EXAMPLES_KEY]),
            )
            write_baseline(evaluation_uri, baseline)
            compare = baseline.comparable
            if remark := baseline.describe():
                report_progress(remark, lasting=True)
        manifest = read_manifest(saved_model_path(artifact_utils.get_single_instance(input_dict[specs.MODEL_KEY])))
        rule = manifest.decision if manifest else None
        leaves_some = rule is not None and not rule.asks_nothing
        eval_config = make_eval_config(
            settings, class_names, baseline_class_names, compare=compare, leaves_some=leaves_some
        )
        write_evaluation_classes(evaluation_uri, class_names)
        drift, serving = (next(iter(input_dict.get(key, [])), None) for key in (DRIFT_KEY, specs.INFRA_BLESSING_KEY))
        model_uri = artifact_utils.get_single_uri(input_dict[specs.MODEL_KEY])
        found = find_refusals(drift and drift.uri, serving and serving.uri, model_uri)
        refusals = json.dumps(found, ensure_ascii=False)
        io_utils.write_string_file(os.path.join(evaluation_uri, REFUSALS_FILE), refusals)
        blessing = artifact_utils.get_single_instance(output_dict[specs.BLESSING_KEY])
        blessing_uri = blessing.uri
        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        splits = json.loads(exec_properties[specs.EXAMPLE_SPLITS_KEY])
        batch_size = _batch_size(examples, splits, input_dict[specs.MODEL_KEY])
        count = ImageCount(("evaluating", count_images(examples.uri, splits)))
        # TFX knows its own thresholds only; its file stays in the temporary folder.
        with tempfile.TemporaryDirectory() as blessing.uri, reading_in_batches(batch_size, count):
            super().Do(
                input_dict,
                output_dict,
                {**exec_properties, specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(eval_config)},
            )
        blessing.uri = blessing_uri
        # Beam keeps the last shared object, here the model, until another one comes.
        shared.Shared().acquire(_Nothing)
        results = read_results(evaluation_uri)
        _write_verdict(blessing, bool(results.passed), results.refusals)


def _batch_size(examples: Artifact, splits: list[str], model: list[Artifact]) -> int:
    """Returns how many examples are read, and asked about, at a time; also of a model without a manifest."""
    manifest = read_manifest(saved_model_path(artifact_utils.get_single_instance(model)))
    size = records_at_once(examples, splits)
    return min(size, images_at_once(manifest.image_size)) if manifest else size


def _write_verdict(blessing: Artifact, blessed: bool, refusals: dict[str, str]) -> None:
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    blessing.set_string_custom_property(REFUSALS_KEY, json.dumps(refusals, ensure_ascii=False))
    if not blessed:
        report_progress(f"refused by {', '.join(refusals)}", lasting=True)


def _class_names(model: list[Artifact]) -> list[str]:
    return read_classes(saved_model_path(artifact_utils.get_single_instance(model)))
