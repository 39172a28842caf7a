"""The Tuner's executor: TFX's, and all trials in a form that people read."""

from typing import Any

from tfx import types
from tfx.components.tuner import executor as tfx_executor
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs

from components.tuner.results import write_tuning


class Executor(tfx_executor.Executor):
    """Searches, and writes the best hyperparameters and all trials."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See TFX's executor; what a killed search would go on from is removed when its results are written."""
        tuner = tfx_executor.search(input_dict, exec_properties, self._get_tmp_dir(), print_tuning_summary=False)
        tfx_executor.write_best_hyperparameters(tuner, output_dict)
        write_tuning(tuner, artifact_utils.get_single_uri(output_dict[specs.TUNER_RESULTS_KEY]))
        tuner.search_dir.remove()
