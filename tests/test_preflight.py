"""The preflight command: its mistakes, what it prints and how it ends; slow: the TPU compiler itself."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import tensorflow as tf
import tf_keras

from components.lane import installed_lane
from components.trainer.lowering import LoweredStep, PhaseSteps, choose_phase, lower_step, make_phase_steps
from components.trainer.settings import ResolvedSettings
from pipeline import preflight, tpu_compiler
from pipeline.preflight_report import PreflightReport, to_json
from pipeline.tpu_compiler import Compilation, compile_for_tpu, parse_refusal
from pipeline.tpu_types import GIB, find_tpu_type
from tests.narrow_vgg import narrow_vgg
from tests.test_trainer_lowering import with_first

needs_compiler = pytest.mark.skipif(
    not tpu_compiler.TPU_PYTHON.is_file(), reason="no .venv-tpu, the TPU compiler's environment: make preflight"
)
V5E = find_tpu_type("v5e-4")
COMPILED = Compilation(True, None, True, 3 * GIB, V5E.generation.program_hbm_bytes, (), 2e12, "0.0.17")
REFUSED = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. \
Used 40.00G of 15.75G hbm. Exceeded hbm capacity by 24.25G.

Total hbm usage >= 40.25G:
    reserved        258.00M
    program         unknown size
    arguments        40.00G
"""

DIGITS = ["--tpu", "v5e-4", "--preset", "digits", "--set", "trainer.recipe=manual", "trainer.fine_tune_blocks=5"]


@pytest.fixture
def fake_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Compilation]]:
    """Answers every compilation, of a narrow VGG16, with the last of its items."""
    answers = [COMPILED]
    monkeypatch.setattr(preflight, "check_environment", lambda: None)
    monkeypatch.setattr(preflight, "compile_for_tpu", lambda hlo, tpu: answers[-1])
    with narrow_vgg():
        yield answers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tpu", "v9:2x2"], "TPU v9:2x2: unknown"),
        (["--tpu", "v5e:4x4"], "no slice of one host"),
        (["--tpu", "v5e-4", "--set", "transform.image_size=16"], "transform.image_size is 16"),
        (["--tpu", "v5e-4", "--set", "trainer.blocks=1"], "unknown setting trainer.blocks"),
        (["--tpu", "v2-8", "--set", "trainer.batch_size=12"], "not a multiple of the 8 cores of v2-8; use 8 or 16"),
        (["--tpu", "v2-8", "--set", "trainer.batch_size=4"], "use 8, or say --batch N"),
        (["--tpu", "v2-8", "--batch", "0"], "--batch 0: must be at least 1"),
        (["--tpu", "v2-8", "--batch", "8", "--images", "0"], "--images 0: must be at least 1"),
        (["--tpu", "v2-8", "--classes", "1"], "--classes 1: must be at least 2"),
        (["--tpu", "v2-8"], ".venv-tpu is missing; run make preflight"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpu_compiler, "TPU_PYTHON", tpu_compiler.ROOT / "none" / ".venv-tpu" / "bin" / "python")
    assert preflight.main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_the_data_does_not_matter() -> None:
    arguments = preflight.make_parser().parse_args(["--tpu", "v5e-4", "--set", "data.path=/none", "trainer.seed=3"])
    config = preflight.load_step_config(arguments)
    assert (config.transform.image_size, config.trainer.seed) == (224, 3)


def test_what_a_person_sees(fake_compiler: list[Compilation], capfd: pytest.CaptureFixture[str]) -> None:
    assert preflight.main([*DIGITS]) == 0
    text = capfd.readouterr().out
    assert "v5e-4 (v5e:2x2): 4 chips" in text
    assert "1,000 classes, bfloat16, phase fine-tune (5 of the backbone's blocks learn), 8 images per core" in text
    assert text.count("3.00 of 15.75 GiB") == 2
    # 2 TFLOP at 197 TFLOP/s; 4 x 8 images in this time.
    assert text.count("  2 T   10.2 ms             3,152\n") == 2
    assert "The time is a loose bound: the compiler's FLOPs at the published peak for bfloat16. " in text
    assert "CPU kernels" in text
    lane = installed_lane()
    image = {"tfx-1.16": "an older one, of your choice", "tfx-1.21": "0.0.17"}[lane]
    assert f"Compiled for one core by libtpu 0.0.17; the `tpu` image of {lane} has {image}.\n" in text


def test_each_core_of_a_chip_has_its_share_of_the_peak(fake_compiler: list[Compilation]) -> None:
    v3 = find_tpu_type("v3-8")
    step = preflight.compile_step(LoweredStep("test_step", 4, b"", 0, 0, 0, 12_368), v3)
    report = to_json(PreflightReport(v3, 32, 1000, "float32", "manual", "head", 0, 4, (step,), None))
    # 2 TFLOP at half of 123 TFLOP/s; 8 cores with 4 images each.
    assert report["steps"][0]["least_seconds"] == pytest.approx(2 / 61.5)
    assert report["steps"][0]["images_per_second"] == pytest.approx(32 * 61.5 / 2)
    assert "bfloat16, which float32 does not reach. " in report["left_out"][-1]


def test_a_recipe_that_steps_nothing_compiles_its_forward_pass(
    fake_compiler: list[Compilation], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "trainer.recipe=quick", "transform.image_size=32"]
    assert preflight.main(["--tpu", "v5e-4", "--preset", "photos", *settings]) == 0
    text = capfd.readouterr().out
    assert "nothing is stepped by recipe quick" in text
    assert "test_step" in text
    assert "train_step" not in text


def test_few_images_narrow_the_step_of_a_recipe(
    fake_compiler: list[Compilation], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tpu", "v5e-4", "--preset", "photos", "--set", "transform.image_size=32", "--classes", "5", "--json"]
    assert preflight.main([*arguments, "--find-batch", "--images", "400"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["recipe"], report["phase"], report["blocks"]) == ("balanced", None, 0)
    assert [step["name"] for step in report["steps"]] == ["test_step"]
    assert preflight.main(arguments) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["phase"], report["blocks"]) == ("fine-tune", 1)
    assert [step["name"] for step in report["steps"]] == ["train_step", "test_step"]


@pytest.mark.parametrize("terminal", [True, False])
def test_no_line_ends_with_spaces_and_no_word_is_cut(
    terminal: bool,
    fake_compiler: list[Compilation],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")  # 80 columns, no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert preflight.main([*DIGITS]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert not [line for line in lines if line != line.rstrip() or "…" in line]
    assert not terminal or max(map(len, lines)) <= 80
    assert [line.split()[:2] for line in lines if line.endswith("3,152")] == [
        ["train_step", "compiled"],
        ["test_step", "compiled"],
    ]


def test_a_refused_step_ends_with_status_1(fake_compiler: list[Compilation], capfd: pytest.CaptureFixture[str]) -> None:
    fake_compiler.append(parse_refusal({"message": REFUSED, "libtpu": "0.0.17"}, V5E))
    assert preflight.main([*DIGITS, "--phase", "head", "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert not report["passed"]
    step = report["steps"][0]
    assert step["reason"].startswith("Ran out of memory in memory space hbm. Used 40.00G of 15.75G")
    assert step["hbm_bytes"] == 40 * GIB
    assert step["limit_bytes"] == int(15.75 * GIB)
    assert [line.split() for line in step["hbm_report"]][1] == ["reserved", "258.00M"]


def test_find_batch_reports_the_largest(
    fake_compiler: list[Compilation], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = parse_refusal({"message": REFUSED, "libtpu": "0.0.17"}, V5E)
    compile_step = preflight.compile_step

    def limited(step: Any, tpu: Any) -> Any:
        report = compile_step(step, tpu)
        fits = step.batch_size <= 40
        return replace(report, compilation=replace(COMPILED, hbm_bytes=step.batch_size * GIB // 3) if fits else refused)

    monkeypatch.setattr(preflight, "compile_step", limited)
    assert preflight.main([*DIGITS, "--phase", "head", "--find-batch", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["find_batch"]["largest"], report["find_batch"]["exact"]) == (40, True)
    assert [step["batch_size"] for step in report["steps"]] == [40, 40]
    assert [step["name"] for step in report["steps"]] == ["train_step", "test_step"]


def test_one_array_beyond_the_hbm_is_a_matter_of_memory() -> None:
    message = "INTERNAL: Allocation (size=42010148864) would exceed memory (size=17179869184) :: #allocation2"
    refusal = parse_refusal({"message": message, "libtpu": "1"}, V5E)
    assert (refusal.fits, refusal.hbm_bytes) == (False, 42010148864)
    assert refusal.limit_bytes == V5E.generation.program_hbm_bytes


def test_a_refusal_for_another_reason_is_not_for_memory() -> None:
    refusal = parse_refusal({"message": "INVALID_ARGUMENT: Element type C128 is not supported", "libtpu": "1"}, V5E)
    assert (refusal.compiled, refusal.fits, refusal.hbm_bytes) == (False, True, None)


@pytest.mark.slow
@needs_compiler
def test_the_tpu_compiler_takes_the_trainers_steps() -> None:
    settings = ResolvedSettings(fine_tune_blocks=1)
    steps = make_phase_steps(settings, choose_phase(settings), 32, 10)
    for name in ("train_step", "test_step"):
        step = lower_step(steps, name, 16)
        compilation = compile_for_tpu(step.hlo, V5E)
        assert compilation.compiled, compilation.reason
        weights = sum(variable.shape.num_elements() * 4 for variable in steps.model.variables)
        assert weights < compilation.hbm_bytes < weights * 4
        # A forward pass of VGG16 at 32 pixels is 0.626 GFLOP an image; XLA does not count what falls on borders.
        forward = 16 * 0.626e9
        assert 0.6 * forward < compilation.flops < 1.6 * forward


@pytest.mark.slow
@needs_compiler
def test_the_tpu_compiler_can_refuse() -> None:
    scale = tf.Variable(2.0, dtype=tf.complex128, trainable=False)

    def with_complex128(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.math.real(scale * tf.cast(images, tf.complex128)), tf.float32)

    settings = ResolvedSettings(fine_tune_blocks=1)
    steps = with_first(make_phase_steps(settings, choose_phase(settings), 32, 10), with_complex128)
    compilation = compile_for_tpu(lower_step(steps, "train_step", 8).hlo, V5E)
    assert not compilation.compiled
    assert compilation.fits
    assert "C128" in compilation.reason


@pytest.mark.slow
@needs_compiler
def test_a_batch_that_does_not_fit_is_refused_with_the_account_of_the_hbm() -> None:
    images = tf_keras.Input([128, 128, 3], dtype=tf.uint8)
    features = tf.cast(images, tf.float32)
    for _ in range(3):
        features = tf_keras.layers.Conv2D(64, 3, padding="same", activation="relu")(features)
    model = tf_keras.Model(images, tf_keras.layers.Dense(2)(tf_keras.layers.GlobalAveragePooling2D()(features)))

    def train_step(_: Any, __: Any, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images))
            loss = tf.reduce_sum(losses * weights)
        for variable, gradient in zip(model.variables, tape.gradient(loss, model.variables), strict=True):
            variable.assign_sub(gradient)
        return loss

    steps = PhaseSteps(model, train_step, train_step)
    compilation = compile_for_tpu(lower_step(steps, "train_step", 4096).hlo, V5E)
    assert not compilation.compiled
    assert not compilation.fits
    assert compilation.limit_bytes == V5E.generation.program_hbm_bytes
    assert compilation.hbm_bytes > compilation.limit_bytes
    assert "reserved" in "".join(compilation.hbm_report)
