"""The Trainer's own steps as HLO, XLA's input, at the shapes of one replica: what a TPU's compiler judges."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf
import tf_keras

from components.trainer.learner import Judge, Learner
from components.trainer.mixing import UNMIXED
from components.trainer.model import make_model, set_trainable_blocks
from components.trainer.noise import StepNoise
from components.trainer.phases import Phase, make_phases
from components.trainer.settings import ResolvedSettings
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
        updated_variables: variables that the step writes: trained ones and the optimizer's.
        input_bytes: of one batch of images, labels and weights.
    """

    name: StepName
    batch_size: int
    hlo: bytes
    trained_parameters: int
    trained_bytes: int
    updated_variables: int
    input_bytes: int


def choose_phase(settings: ResolvedSettings, name: str | None = None) -> Phase | None:
    """Returns a phase by name, by default the last one: it trains the most variables; None where no image is stepped.

    Raises:
        UserError: the settings have no such phase.
    """
    # A head that is not stepped with its backbone learns from features, whose steps are no burden to any device.
    stepped = settings.head == "stepped"
    phases = {phase.name: phase for phase in make_phases(settings) if phase.blocks or stepped}
    if name is None:
        return list(phases.values())[-1] if phases else None
    if name not in phases:
        there = f"there is {', '.join(phases)}" if phases else "nothing is stepped"
        raise UserError(f"phase {name}: it has no epochs in these settings; {there}")
    return phases[name]


@dataclass(frozen=True)
class PhaseSteps:
    """The Trainer's steps in one phase.

    Attributes:
        model: what they train and judge.
        train_step: (step int64, mixing float32 [4], images, labels int64 [n], weights float32 [n]) -> sums; None where
            nothing is stepped.
        test_step: (images, labels, weights) -> sums.
    """

    model: tf_keras.Model
    train_step: Callable[..., tf.Tensor] | None
    test_step: Callable[..., tf.Tensor]


def make_phase_steps(settings: ResolvedSettings, phase: Phase | None, image_size: int, class_count: int) -> PhaseSteps:
    """Builds model and steps as the Trainer does for a phase on a TPU: `auto` precision is bfloat16 there.

    A solved head rests while blocks learn. Without a phase there is `test_step` alone: the forward pass.
    """
    precision = "bfloat16" if settings.precision == "auto" else settings.precision
    model = make_model(
        class_count,
        image_size,
        settings.dropout,
        precision,
        settings.backbone,
        learn_statistics=settings.weights == "none",
        pooling=settings.pooling,
    )
    if phase is None:
        return PhaseSteps(model, None, Judge(model).test_step)
    model.get_layer("head").trainable = settings.head != "solved"
    set_trainable_blocks(model, phase.blocks)
    learner = Learner(model, phase, settings, StepNoise(model, settings.seed))
    return PhaseSteps(model, learner.train_step, Judge(model).test_step)


def lower_step(steps: PhaseSteps, name: StepName, batch_size: int) -> LoweredStep:
    """Lowers one step, with TensorFlow's kernels for XLA on the CPU: this build has no others.

    Args:
        steps: e.g. from `make_phase_steps`.
        name: which of them.
        batch_size: images of one replica.

    Raises:
        UserError: an operation of the step has no XLA kernel, so that no TPU has it either, or it is a routine of the
            CPU's libraries.
    """
    run_step = tf.function(getattr(steps, name), jit_compile=True, autograph=False)
    batch = (
        tf.TensorSpec([batch_size, *steps.model.input_shape[1:]], tf.uint8),
        tf.TensorSpec([batch_size], tf.int64),
        tf.TensorSpec([batch_size], tf.float32),
    )
    scalars = (tf.TensorSpec([], tf.int64), tf.TensorSpec(UNMIXED.shape, tf.float32)) if name == "train_step" else ()
    function = run_step.get_concrete_function(*scalars, *batch)
    make_ir = run_step.experimental_get_compiler_ir(*scalars, *batch)
    try:
        text, hlo = make_ir(stage="hlo"), make_ir(stage="hlo_serialized")
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(f"{name} cannot be lowered: {_explain(str(error))}") from error
    foreign = sorted(set(_CUSTOM_CALL.findall(text)) - _PORTABLE_CUSTOM_CALLS)
    if foreign:
        raise UserError(f"{name} calls {', '.join(foreign)}, routines of the CPU that TPUs do not have; replace them")
    trained = steps.model.trainable_variables if name == "train_step" else []
    return LoweredStep(
        name=name,
        batch_size=batch_size,
        hlo=hlo,
        trained_parameters=sum(variable.shape.num_elements() for variable in trained),
        trained_bytes=sum(variable.shape.num_elements() * variable.dtype.size for variable in trained),
        # The results of the function come first, then the variables that it writes.
        updated_variables=count_outputs(text) - len(function.outputs),
        input_bytes=sum(spec.shape.num_elements() * spec.dtype.size for spec in batch),
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
