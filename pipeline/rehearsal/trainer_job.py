"""The Trainer's job of several machines on this one: each machine's command as a process, in its environment."""

import json
import socket
import sys
from typing import Any

from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format
from tfx.dsl.components.base import base_executor
from tfx.types import Artifact

from components.google_cloud.trainer_job import make_job
from components.trainer.devices import DEVICE_VARIABLE
from pipeline.rehearsal.machines import Machine, run_machines

_TASK_TYPES = ("chief", "worker")
"""What Vertex AI calls the machines of the first and the second pool."""


class Executor(base_executor.BaseExecutor):
    """Runs what Vertex AI would run, and ends with it."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains; arguments as in `components.google_cloud.trainer_job.Executor`.

        Raises:
            RuntimeError: a machine's process did not succeed.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        run_machines(make_machines(make_job(input_dict, output_dict, exec_properties)))


def make_machines(job: vertex.CustomJob) -> list[Machine]:
    """Returns the machines of a job, the chief first, with addresses on this one.

    `TF_CONFIG` is what Vertex AI sets by its page, read in November 2026:
    docs.cloud.google.com/gemini-enterprise-agent-platform/machine-learning/training/distributed-training#tf-config
    """
    pools = list(zip(_TASK_TYPES, job.job_spec.worker_pool_specs, strict=True))
    ports = iter(_find_ports(sum(pool.replica_count for _, pool in pools)))
    cluster = {kind: [f"localhost:{next(ports)}" for _ in range(pool.replica_count)] for kind, pool in pools}
    spec = json_format.MessageToDict(vertex.CustomJobSpec.pb(job.job_spec))
    return [
        Machine(
            f"{kind} {index}",
            [sys.executable if word == "python" else word for word in pool.container_spec.command],
            {
                **{variable.name: variable.value for variable in pool.container_spec.env},
                # Two processes cannot share a GPU, if there is one.
                DEVICE_VARIABLE: "",
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": cluster,
                        "environment": "cloud",
                        "job": spec,
                        "task": {"cloud": "rehearsal", "index": index, "type": kind},
                    }
                ),
            },
        )
        for kind, pool in pools
        for index in range(pool.replica_count)
    ]


def _find_ports(count: int) -> list[int]:
    servers = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports
