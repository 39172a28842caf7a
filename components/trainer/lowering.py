"""The Trainer's own steps as HLO, XLA's input, at the shapes of one replica: what a TPU's compiler is given to judge."""

import re
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf
import tf_keras

from components.trainer.callbacks import Phase
from components.trainer.model import make_model, set_trainable_blocks
from components.trainer.settings import TrainerSettings
from components.trainer.training import _compile as compile_for_phase
from components.trainer.training import make_phases
from data.errors import UserError

StepName = Literal["train_step", "test_step"]
STEPS: tuple[StepName, ...] = ("train_step", "test_step")

# XLA's own targets, which every backend takes. Any other names a routine of the CPU's libraries.
_PORTABLE_CUSTOM_CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
_CUSTOM_CALL = re.compile(r'custom_call_target="([^"]*)"')
_UNSUPPORTED = re.compile(r"Detected unsupported operations when trying to compile graph .*? on \w+: (.*)", re.DOTALL)
_UNSUPPORTED_OP = re.compile(r"(\w+) \(No registered")


@dataclass(frozen=True)
class LoweredStep:
    """A step of one replica.

    Attributes:
        name: `train_step` or `test_step`.
        batch_size: images in the batch of this replica.
        hlo: a serialized `HloModuleProto`; updated variables alias their inputs, so that they take memory once.
        trained_parameters: numbers that the step trains; 0 in `test_step`. Their gradients are what replicas exchange.
        trained_bytes: of these gradients, in the type of their variables.
        updated_variables: variables that the step writes: trained ones, the optimizer's and the metrics'.
        input_bytes: of one batch of images and labels.
    """

    name: StepName
    batch_size: int
    hlo: bytes
    trained_parameters: int
    trained_bytes: int
    updated_variables: int
    input_bytes: int


def choose_phase(settings: TrainerSettings, name: str | None = None) -> Phase:
    """Returns a phase by name, by default the last one: it trains the most variables.

    Raises:
        UserError: the settings have no such phase.
    """
    phases = {phase.name: phase for phase in make_phases(settings)}
    if name is None:
        return list(phases.values())[-1]
    if name not in phases:
        raise UserError(f"phase {name}: it has no epochs in these settings; there is {', '.join(phases)}")
    return phases[name]


def make_phase_model(settings: TrainerSettings, phase: Phase, image_size: int, class_count: int) -> tf_keras.Model:
    """Builds and compiles the model as the Trainer does for a phase on a TPU: `auto` precision is bfloat16 there."""
    precision = "bfloat16" if settings.precision == "auto" else settings.precision
    model = make_model(class_count, image_size, settings.dropout, precision)
    set_trainable_blocks(model, phase.blocks)
    compile_for_phase(model, phase)
    return model


def lower_step(model: tf_keras.Model, name: StepName, batch_size: int) -> LoweredStep:
    """Lowers one step, with TensorFlow's kernels for XLA on the CPU: this build has no others.

    Args:
        model: compiled, e.g. from `make_phase_model`.
        name: which of its steps.
        batch_size: images of one replica.

    Raises:
        UserError: an operation of the step has no XLA kernel, so that no TPU has it either, or it is a routine of the
            CPU's libraries.
    """
    step = getattr(model, name)

    @tf.function(jit_compile=True, autograph=False)
    def run_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return step((images, labels))

    images = tf.TensorSpec([batch_size, *model.input_shape[1:]], tf.uint8)
    labels = tf.TensorSpec([batch_size], tf.int64)
    function = run_step.get_concrete_function(images, labels)
    make_ir = run_step.experimental_get_compiler_ir(images, labels)
    try:
        text, hlo = make_ir(stage="hlo"), make_ir(stage="hlo_serialized")
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(f"{name} cannot be lowered: {_explain(str(error))}") from error
    foreign = sorted(set(_CUSTOM_CALL.findall(text)) - _PORTABLE_CUSTOM_CALLS)
    if foreign:
        raise UserError(f"{name} calls {', '.join(foreign)}, routines of the CPU that TPUs do not have; replace them")
    trained = model.trainable_variables if name == "train_step" else []
    return LoweredStep(
        name=name,
        batch_size=batch_size,
        hlo=hlo,
        trained_parameters=sum(variable.shape.num_elements() for variable in trained),
        trained_bytes=sum(variable.shape.num_elements() * variable.dtype.size for variable in trained),
        # The results of the function come first, then the variables that it writes.
        updated_variables=count_outputs(text) - len(function.outputs),
        input_bytes=sum(spec.shape.num_elements() * spec.dtype.size for spec in (images, labels)),
    )


def count_outputs(hlo_text: str) -> int:
    """Returns how many arrays an HLO module returns, from its text."""
    layout = hlo_text[hlo_text.index("entry_computation_layout=") :].partition("\n")[0]
    return len(re.findall(r"\w+\[[\d,]*\]", layout.partition("->")[2]))


def _explain(message: str) -> str:
    """Returns the operations that an error of the lowering names, else its first line."""
    found = _UNSUPPORTED.search(message)
    if not found:
        return message.strip().partition("\n")[0][:300]
    operations = dict.fromkeys(_UNSUPPORTED_OP.findall(found[1]))
    named = ", ".join(operations) or found[1].partition("\n")[0][:300]
    return f"TPUs do not have {named} (no XLA kernel); move it to the input pipeline, or use another operation"
