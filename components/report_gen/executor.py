"""Runs ReportGen: collects the facts, renders the page and the model card."""

import json
from typing import Any

from tfx.dsl.components.base import base_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs

from components.exported_model.manifest import saved_model_path
from components.report_gen.facts import Sources, make_account
from components.report_gen.report_files import write_report
from components.report_gen.settings import ReportSettings

REPORT_KEY = "report"
SETTINGS_KEY = "settings"
CONFIG_KEY = "config"
CODE_HASH_KEY = "code_hash"


class Executor(base_executor.BaseExecutor):
    """Reads artifacts, runs no model but for Grad-CAM of the images shown, and writes one folder."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `report.html`, `model_card.md` and the `facts.json` that both are made from.

        Args:
            input_dict: `evaluation`, and what else there is of `predictions`, `examples`, `model`, `model_run`,
                `transform_graph`, `statistics`, `anomalies`, `drift`, `infra_blessing`,
                `tuner_results`, `formats`.
            output_dict: `report`.
            exec_properties: `settings` (JSON of ReportSettings), `config` (JSON of the whole configuration) and
                `code_hash` (JSON of node to hash).
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = ReportSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        config = json.loads(exec_properties[CONFIG_KEY])
        inputs = {key: artifact_utils.get_single_instance(found) for key, found in input_dict.items() if found}
        uris = {key: artifact.uri for key, artifact in inputs.items()}
        if specs.MODEL_KEY in inputs:
            uris[specs.MODEL_KEY] = saved_model_path(inputs[specs.MODEL_KEY])
        sources = Sources(
            name=config.get("name", ""),
            uris=uris,
            examples=inputs.get(specs.EXAMPLES_KEY),
            config=config,
            code_hashes=json.loads(exec_properties.get(CODE_HASH_KEY) or "{}"),
        )
        write_report(make_account(sources, settings), artifact_utils.get_single_uri(output_dict[REPORT_KEY]))
