"""Compiles one HLO module for a TPU without a TPU: a script of the environment `.venv-tpu`, which has JAX.

    .venv-tpu/bin/python pipeline/preflight_compile.py REQUEST

It imports nothing of this project, and TensorFlow never: that environment has neither. The request is JSON:
`{"topology", "topology_options", "hlo", "result"}`; the result is `{"status": "compiled", "memory": {...}, "flops",
"libtpu"}` or `{"status": "refused", "message", "libtpu"}`.
"""

import importlib.metadata
import json
import os
import sys
from typing import Any

# A killed process would leave the lock file of the whole machine behind; and no metadata server is to be asked.
os.environ.update(ALLOW_MULTIPLE_LIBTPU_LOAD="1", TPU_SKIP_MDS_QUERY="1", JAX_PLATFORMS="cpu")

_MEMORY = ("argument", "output", "alias", "temp", "generated_code")


def main() -> None:
    """Reads the request, compiles and writes the result."""
    request = json.loads(sys.argv[1])
    result = compile_module(request)
    with open(request["result"], "w", encoding="utf-8") as file:
        json.dump(result, file)


def compile_module(request: dict[str, Any]) -> dict[str, Any]:
    """Compiles for one core, as one replica of one partition."""
    import numpy as np
    from jax._src.lib import xla_client
    from jax.experimental import topologies

    device = topologies.get_topology_desc(request["topology"], platform="tpu", **request["topology_options"]).devices[0]
    with open(request["hlo"], "rb") as file:
        computation = xla_client.XlaComputation(file.read())
    module = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id]]))
    libtpu = importlib.metadata.version("libtpu")
    try:
        executable = device.client.compile(
            module if isinstance(module, bytes) else module.encode(), xla_client.DeviceList((device,)), options
        )
    except xla_client.XlaRuntimeError as error:
        return {"status": "refused", "message": str(error), "libtpu": libtpu}
    memory = executable.get_compiled_memory_stats()
    return {
        "status": "compiled",
        "memory": {name: getattr(memory, f"{name}_size_in_bytes") for name in _MEMORY},
        "flops": executable.cost_analysis()["flops"],
        "libtpu": libtpu,
    }


if __name__ == "__main__":
    main()
