"""The fresh process: loads a SavedModel with TensorFlow alone and answers calls, as a model server would.

Run as a file by `components.serving_validator.fresh_process`, copied beside the model, in Python's isolated mode:
nothing of this project is within its reach. Data come and go as JSON and as numpy arrays without pickles.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

REQUEST_FILE, ITEMS_FILE, ANSWERS_FILE, ARRAYS_FILE = "request.json", "items.npz", "answers.json", "answers.npz"


def main(folder: Path) -> None:
    """Answers the calls that lie in a folder.

    Args:
        folder: holds `model`, the SavedModel; `request.json`, `{"calls": [{"signature", "input", "items", "alone"}],
            "latency": {"signature", "input", "item", "warm_up_calls", "calls", "seconds"}}`; and `items.npz`, every
            item as a uint8 array named after its number: bytes have one dimension, pictures three. It gets
            `answers.npz`, numeric and string outputs as `<call>.<output>`, and `answers.json`, whose `calls` name the
            outputs or the error of each.
    """
    import numpy as np
    import tensorflow as tf

    started = time.perf_counter()
    loaded = tf.saved_model.load(str(folder / "model"))
    answers: dict[str, Any] = {
        "load_seconds": time.perf_counter() - started,
        "tensorflow": tf.__version__,
        "signatures": {name: _describe(signature) for name, signature in loaded.signatures.items()},
        "calls": [],
        "latencies_ms": [],
    }
    sys.stdin.readline()  # Whoever started us may still compute: latencies are taken on a quiet machine.
    request = json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8"))
    with np.load(folder / ITEMS_FILE, allow_pickle=False) as stored:
        items = {int(name): stored[name] for name in stored.files}
    arrays: dict[str, Any] = {}

    def call(signature: str, argument: str, numbers: list[int], alone: bool = False) -> dict[str, Any]:
        batch = [items[number] for number in numbers]
        if batch[0].ndim == 1:
            sent = tf.constant([item.tobytes() for item in batch], tf.string)
        else:
            sent = tf.constant(batch[0] if alone else np.stack(batch))
        return {key: value.numpy() for key, value in loaded.signatures[signature](**{argument: sent}).items()}

    for number, wanted in enumerate(request["calls"]):
        try:
            outputs = call(wanted["signature"], wanted["input"], wanted["items"], wanted["alone"])
        except Exception as error:  # Whatever it is, it is this call's answer: a server lives on, too.
            answers["calls"].append({"error": type(error).__name__, "message": str(error)})
            continue
        for key, value in outputs.items():
            arrays[f"{number}.{key}"] = value.astype(np.bytes_) if value.dtype == object else value
        answers["calls"].append({"outputs": sorted(outputs)})

    latency = request["latency"]
    if latency["signature"] in loaded.signatures:
        deadline = time.perf_counter() + latency["seconds"]
        for number in range(latency["warm_up_calls"] + latency["calls"]):
            started = time.perf_counter()
            if number > latency["warm_up_calls"] and started >= deadline:
                break
            try:
                call(latency["signature"], latency["input"], [latency["item"]])
            except Exception:  # It was told above already.
                break
            if number >= latency["warm_up_calls"]:
                answers["latencies_ms"].append(1000 * (time.perf_counter() - started))
    np.savez(folder / ARRAYS_FILE, **arrays)
    (folder / ANSWERS_FILE).write_text(json.dumps(answers), encoding="utf-8")


def _describe(signature: Any) -> dict[str, dict[str, tuple[str, list[int | None] | None]]]:
    """Returns name -> (type, shape) of a signature's inputs and outputs; a shape may be unknown."""

    def describe(specs: dict[str, Any]) -> dict[str, tuple[str, list[int | None] | None]]:
        return {
            name: (spec.dtype.name, None if spec.shape.rank is None else spec.shape.as_list())
            for name, spec in specs.items()
        }

    return {
        "inputs": describe(signature.structured_input_signature[1]),
        "outputs": describe(signature.structured_outputs),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
