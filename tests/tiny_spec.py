"""Compiled pipelines whose containers are a few lines of Python: real processes, without TFX's imports."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}
BLESSING = {"instanceSchema": "title: tfx.ModelBlessing\ntype: object\n"}

_PRELUDE = "import json, os, sys; task = json.loads(sys.argv[1]); inputs = task.get('inputs', {}); "
_PRELUDE += "outputs = task['outputs']; made = {}; first = lambda side, key: side['artifacts'][key]['artifacts'][0]\n"
_WRITE = "\njson.dump({'artifacts': made}, open(outputs['outputFile'], 'w'))\n"

WRITE_MODEL = (
    "artifact = first(outputs, 'model'); open(artifact['uri'] + '/weights', 'w').write(str(inputs))\n"
    "made['model'] = {'artifacts': [{'name': artifact['name'], 'uri': artifact['uri'], 'metadata': {'good': 1}}]}"
)


def container(code: str, **more: Any) -> dict[str, Any]:
    """Returns the executor of a container that runs `code` with `inputs`, `outputs`, `first` and `made` at hand."""
    return {
        "container": {
            "image": "image:1",
            "command": ["python", "-c", _PRELUDE + code + _WRITE],
            "args": ["{{$}}"],
            **more,
        }
    }


class TinySpec:
    """Builds a spec of schema 2.1, task by task; `spec` may be changed freely before it is written."""

    def __init__(self, name: str = "tiny") -> None:
        self.job: dict[str, Any] = {
            "pipelineSpec": {
                "pipelineInfo": {"name": name},
                "schemaVersion": "2.1.0",
                "sdkVersion": f"tfx-{version('tfx')}",
                "deploymentSpec": {"executors": {}},
                "components": {},
                "root": {"dag": {"tasks": {}}},
            },
            "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/root"},
        }
        self.spec = self.job["pipelineSpec"]

    def add(
        self,
        name: str,
        executor: dict[str, Any],
        inputs: dict[str, tuple[str, str, dict[str, Any]]] | None = None,
        outputs: dict[str, dict[str, Any]] | None = None,
        parameters: dict[str, tuple[str, Any]] | None = None,
        **task: Any,
    ) -> None:
        """Adds a task.

        Args:
            name: of the task, its component and its executor.
            executor: e.g. from `container`.
            inputs: key -> (task, its output, type).
            outputs: key -> type.
            parameters: key -> (kind, constant).
            task: further keys of the PipelineTaskSpec.
        """
        self.spec["deploymentSpec"]["executors"][name] = executor
        component: dict[str, Any] = {"executorLabel": name, "inputDefinitions": {}, "outputDefinitions": {}}
        entry: dict[str, Any] = {"taskInfo": {"name": name}, "componentRef": {"name": name}, "inputs": {}, **task}
        for key, (producer, output, kind) in (inputs or {}).items():
            component["inputDefinitions"].setdefault("artifacts", {})[key] = {"artifactType": kind}
            source = {"producerTask": producer, "outputArtifactKey": output}
            entry["inputs"].setdefault("artifacts", {})[key] = {"taskOutputArtifact": source}
        for key, kind in (outputs or {}).items():
            component["outputDefinitions"].setdefault("artifacts", {})[key] = {"artifactType": kind}
        for key, (kind, value) in (parameters or {}).items():
            component["inputDefinitions"].setdefault("parameters", {})[key] = {"parameterType": kind}
            entry["inputs"].setdefault("parameters", {})[key] = {"runtimeValue": {"constant": value}}
        self.spec["components"][name] = component
        self.spec["root"]["dag"]["tasks"][name] = entry

    def task(self, name: str) -> dict[str, Any]:
        """Returns a task, to be changed."""
        found: dict[str, Any] = self.spec["root"]["dag"]["tasks"][name]
        return found

    def write(self, folder: Path) -> str:
        """Writes the file and returns its path."""
        path = folder / "spec.json"
        path.write_text(json.dumps(self.job), encoding="utf-8")
        return str(path)
