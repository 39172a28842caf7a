"""What is asked of the devices that train; without TensorFlow, for the commands."""

from data.errors import UserError

DEVICE_VARIABLE = "TRAINER_DEVICE"
"""The environment variable in which a job says what its machine was taken for: `gpu` or `tpu`, or nothing."""


def check_batch(batch_size: int, parts: int, called: str = "replicas", otherwise: str = "") -> None:
    """Refuses a batch that cannot be shared evenly.

    Args:
        batch_size: images in a step.
        parts: what share it.
        called: how these are called.
        otherwise: what else can be done about it.

    Raises:
        UserError: the batch is not a multiple of them.
    """
    if batch_size % parts:
        below = batch_size // parts * parts
        allowed = f"{below} or {below + parts}" if below else f"{parts}"
        raise UserError(
            f"trainer.batch_size is {batch_size}, not a multiple of the {parts} {called}; use {allowed}{otherwise}"
        )
