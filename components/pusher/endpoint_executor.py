"""A Pusher that deploys a blessed model to a Vertex endpoint.

TFX's own Vertex Pusher never undeploys an old model, so that each push adds a machine that is paid for; it uploads each
push as a new model rather than a version of one; and a push that is run again deploys twice.
"""

import os
from typing import Any

from tfx.components.pusher import executor as tfx_executor
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import json_utils

from components.google_cloud.endpoint_target import ONLY_VERSION, EndpointTarget
from components.progress import report_progress
from components.pusher.archive import archive_model

ENDPOINT_KEY = "endpoint"


class EndpointExecutor(tfx_executor.Executor):
    """Uploads the model as a new version, deploys it, and undeploys what it replaces."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it is blessed.

        Args:
            input_dict: `model`, and optionally `model_blessing` and `predictions`.
            output_dict: `pushed_model`; it gets a copy of the model, which the endpoint serves, and the properties
                `pushed`, `pushed_destination` (the endpoint), `pushed_version` (the model's version in the registry).
            exec_properties: `custom_config`, JSON that holds an `EndpointTarget` under `endpoint`.

        Raises:
            UserError: something that the user can put right: permission, quota, a setting.
            CloudFault: the service failed or could not be reached.
        """
        # Imported here: Google's client takes 2 s, which building a graph must not cost, and only Vertex AI needs it.
        from components.google_cloud.endpoint_deployment import deploy

        self._log_startup(input_dict, output_dict, exec_properties)
        target = EndpointTarget.model_validate(json_utils.loads(exec_properties[specs.CUSTOM_CONFIG_KEY])[ENDPOINT_KEY])
        pushed = artifact_utils.get_single_instance(output_dict[specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        folder = os.path.join(pushed.uri, ONLY_VERSION) if target.takes_versions else pushed.uri
        archive_model(self.GetModelPath(input_dict), input_dict, folder)
        deployment = deploy(target, pushed.uri)
        for line in (deployment.described(), *deployment.notes):
            report_progress(line, lasting=True)
        self._MarkPushed(pushed, pushed_destination=deployment.endpoint, pushed_version=deployment.version)
