"""How long each task may take at most."""

from pipeline.vertex.dataflow import BEAM_NODES, placement_of
from pipeline.vertex.settings import VertexSettings

# A task that only waits for a job elsewhere: what the job may take to start and to be noticed as finished.
WAITING_HOURS = 1.0
# How long Vertex AI looks for a spot machine, unless told otherwise.
SPOT_WAIT_HOURS = 24.0


def task_timeout_hours(settings: VertexSettings, node: str) -> float:
    """Returns the limit of a task's own container; a task that waits for a job outlives it."""
    if node == "Trainer" and settings.trainer.device:
        wait = (settings.trainer.max_wait_hours or SPOT_WAIT_HOURS) if settings.trainer.spot else WAITING_HOURS
        return max(settings.task_timeout_hours, settings.trainer.timeout_hours + wait)
    if node in BEAM_NODES and (placement := placement_of(settings, node)).runner == "dataflow":
        return max(settings.task_timeout_hours, (placement.timeout_hours or 0.0) + WAITING_HOURS)
    return settings.task_timeout_hours
