"""How the arithmetic is chosen: the table of CPUs, the rules of measuring, what is remembered and what is saved."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from components.trainer.attempts import open_checkpoint_dir
from components.trainer.backbone_layers import iterate_layers, make_backbone
from components.trainer.backbones import BACKBONES
from components.trainer.checkpoints import CheckpointDir, TrainingState
from components.trainer.model import make_model
from components.trainer.precision import (
    PrecisionChoice,
    Rates,
    choose_precision,
    cpu_has_bfloat16,
    judge,
    look_up,
    read_cpu,
)
from components.trainer.precision_memory import memory_path, recall, remember
from components.trainer.precision_trial import Budget, PrecisionTrial, Step, Work, plan_work
from components.trainer.strategy import has_tpu
from tests.narrow_vgg import narrow_vgg
from tests.tiny_training import make_settings

pytestmark = pytest.mark.skipif(
    has_tpu() or bool(tf.config.list_physical_devices("GPU")), reason="needs a machine of CPUs alone"
)

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
DEFAULT = tf.distribute.get_strategy()
LONG = Work(forward_images=0, trained_images=10**6, blocks=5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own; nothing of this machine is read or written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "image-classification-pipeline" / "precision.json"


def write_cpuinfo(folder: Path, vendor: str, flags: str, model: str = "A CPU") -> Path:
    path = folder / "cpuinfo"
    processor = f"vendor_id\t: {vendor}\nmodel name\t: {model}\nflags\t\t: {flags}\nbugs\t\t: amx_bf16 avx512_bf16\n"
    path.write_text("".join(f"processor\t: {number}\n{processor}\n" for number in range(2)))
    return path


@pytest.fixture
def xeon(tmp_path: Path) -> Path:
    return write_cpuinfo(tmp_path, INTEL, "fpu avx512f avx512_bf16", "Intel(R) Xeon(R) Processor")


class Laboratory:
    """Steps of known lengths on a clock of their own, in seconds.

    Attributes:
        built: the steps that were asked for, as (precision, by taps, images).
    """

    def __init__(self, float32: float, bfloat16: float, by_taps: float = 99.0, build: float = 0.5) -> None:
        self._seconds, self._build, self._now = {"float32": float32, "bfloat16": bfloat16}, build, 100.0
        self._by_taps = by_taps
        self.built: list[tuple[str, bool, int]] = []

    def clock(self) -> float:
        return self._now

    def make_step(self, precision: str, by_taps: bool, images: int) -> Step:
        self.built.append((precision, by_taps, images))
        self._now += self._build
        seconds = self._by_taps if by_taps else self._seconds[precision]

        def step() -> None:
            self._now += seconds

        return step

    def trial(self, work: Work = LONG, flops_per_second: float = 3e11, **settings: Any) -> PrecisionTrial:
        return PrecisionTrial(
            make_settings(weights="none", batch_size=32, **settings),
            32,
            work,
            clock=self.clock,
            make_step=self.make_step,
            flops_per_second=flops_per_second,
        )


class Unasked:
    """A trial that must not run."""

    key: dict[str, Any] = {"backbone": "vgg16"}
    forced = False

    def run(self) -> tuple[Rates | None, float]:
        raise AssertionError("it measured")


@pytest.mark.parametrize(
    ("vendor", "flags", "name", "by_taps"),
    [
        (AMD, "fpu avx512f avx512_bf16", "bfloat16", True),
        (INTEL, "fpu avx512f avx512_bf16 avx512_fp16", "float32", False),
        (INTEL, "fpu avx512_bf16 amx_bf16 amx_tile", "bfloat16", False),
        (INTEL, "fpu avx512f", "float32", False),
        (AMD, "fpu avx2 not_avx512_bf16", "float32", False),
        ("HygonGenuine", "fpu avx512_bf16", "float32", False),
    ],
)
def test_the_table_answers_by_vendor_and_instruction(
    tmp_path: Path, vendor: str, flags: str, name: str, by_taps: bool
) -> None:
    cpuinfo = write_cpuinfo(tmp_path, vendor, flags)
    assert look_up(read_cpu(cpuinfo)) == PrecisionChoice(name, "table", by_taps)  # type: ignore[arg-type]
    assert choose_precision("auto", DEFAULT, cpuinfo=cpuinfo) == look_up(read_cpu(cpuinfo))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx512f", False), ("fpu not_avx512_bf16", False)],
)
def test_bfloat16_is_read_from_the_cpus_flags(tmp_path: Path, flags: str, expected: bool) -> None:
    assert cpu_has_bfloat16(write_cpuinfo(tmp_path, AMD, flags)) is expected


def test_a_machine_without_cpuinfo_has_no_bfloat16(tmp_path: Path) -> None:
    assert not cpu_has_bfloat16(tmp_path / "missing")
    assert choose_precision("auto", DEFAULT, Unasked(), cpuinfo=tmp_path / "missing").name == "float32"


@pytest.mark.parametrize("setting", ["float32", "bfloat16"])
def test_a_precision_that_is_set_is_taken(xeon: Path, setting: str) -> None:
    choice = choose_precision(setting, DEFAULT, Unasked(), cpuinfo=xeon)
    assert (choice.name, choice.how) == (setting, "setting")


@pytest.mark.parametrize(
    ("vendor", "flags", "by_taps"), [(INTEL, "avx512_bf16", False), (AMD, "avx512_bf16", True), (AMD, "avx2", True)]
)
def test_a_set_bfloat16_has_the_gradients_that_suit_the_cpu(
    tmp_path: Path, vendor: str, flags: str, by_taps: bool
) -> None:
    cpuinfo = write_cpuinfo(tmp_path, vendor, flags)
    assert choose_precision("bfloat16", DEFAULT, cpuinfo=cpuinfo) == PrecisionChoice("bfloat16", "setting", by_taps)


def test_without_the_instruction_nothing_is_measured_or_recalled(tmp_path: Path) -> None:
    cpuinfo = write_cpuinfo(tmp_path, AMD, "fpu avx2")
    remember({"device": "A CPU", "tensorflow": tf.__version__, **Unasked.key}, {"name": "bfloat16"})
    assert choose_precision("auto", DEFAULT, Unasked(), cpuinfo=cpuinfo) == PrecisionChoice("float32", "table")


def test_deterministic_takes_the_tables_answer(xeon: Path) -> None:
    choice = choose_precision("auto", DEFAULT, Unasked(), deterministic=True, cpuinfo=xeon)
    assert choice == PrecisionChoice("float32", "table")


def test_several_workers_take_the_tables_answer(xeon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their clocks would not agree."""
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", type(DEFAULT))
    assert choose_precision("auto", DEFAULT, Unasked(), cpuinfo=xeon).how == "table"


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (Rates(10.0, 20.0), ("bfloat16", True, 20.0)),  # the table's word on taps
        (Rates(10.0, 20.0, 19.0), ("bfloat16", False, 20.0)),
        (Rates(10.0, 9.0, 15.0), ("bfloat16", True, 15.0)),
        (Rates(102.2, 102.6), ("float32", False, 102.6)),  # no more than noise
        (Rates(10.0, 6.3, 6.0), ("float32", False, 6.3)),
    ],
)
def test_bfloat16_must_be_clearly_faster(rates: Rates, expected: tuple[str, bool, float]) -> None:
    choice = judge(rates, PrecisionChoice("bfloat16", "table", True), 4.0)
    assert (choice.name, choice.kernel_gradient, choice.bfloat16_rate) == expected
    assert (choice.how, choice.float32_rate) == ("measured", rates.float32)


def test_a_measurement_overrules_the_table_and_is_one_line(xeon: Path, caplog: pytest.LogCaptureFixture) -> None:
    laboratory = Laboratory(float32=0.2, bfloat16=0.1, by_taps=0.15)
    with caplog.at_level("INFO"):
        choice = choose_precision("auto", DEFAULT, laboratory.trial(), cpuinfo=xeon)
    assert (choice.name, choice.how, choice.kernel_gradient) == ("bfloat16", "measured", False)
    assert (choice.float32_rate, choice.bfloat16_rate) == (pytest.approx(32 / 0.2), pytest.approx(32 / 0.1))
    lines = [record for record in caplog.records if hasattr(record, "progress")]
    assert [line.getMessage() for line in lines] == ["bfloat16: 2 x float32 on this CPU (measured in 3 s)"]
    assert lines[0].progress.lasting  # type: ignore[attr-defined]
    assert choice.seconds == pytest.approx(laboratory.clock() - 100.0)


def test_an_unmeasured_choice_says_nothing(xeon: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        choose_precision("auto", DEFAULT, Laboratory(0.2, 0.1).trial(Work(0, 1000, 5)), cpuinfo=xeon)
    assert not [record for record in caplog.records if hasattr(record, "progress")]


@pytest.mark.parametrize("by_taps", [0.05, 0.3])
def test_kernel_gradients_by_taps_are_judged_by_the_clock(by_taps: float) -> None:
    laboratory = Laboratory(0.2, 0.1, by_taps)
    rates, _ = laboratory.trial().run()
    assert rates is not None
    assert rates.by_taps == pytest.approx(32 / by_taps)
    assert judge(rates, look_up(read_cpu()), 1.0).kernel_gradient is (by_taps < 0.1)


def test_where_steps_pass_forward_alone_there_is_no_gradient_to_judge() -> None:
    laboratory = Laboratory(0.2, 0.1)
    rates, _ = laboratory.trial(Work(10**6, 0)).run()
    assert rates == Rates(pytest.approx(160.0), pytest.approx(320.0))
    assert [case[:2] for case in laboratory.built] == [("float32", False), ("bfloat16", False)]


def test_a_training_too_short_by_arithmetic_builds_nothing() -> None:
    # 2 x 15.3e9 / 49 operations forward, three times that to train: 1.9 GFLOP an image, 3 % of 15,000 images are 2.8 s.
    laboratory = Laboratory(0.2, 0.1)
    assert laboratory.trial(Work(0, 15_000, 5)).run() == (None, 0.0)
    assert not laboratory.built
    assert laboratory.trial(Work(0, 17_000, 5)).run()[0] is not None


@pytest.mark.parametrize(
    ("float32", "measures"),
    [
        (0.16, True),  # 0.5 s to build and two steps are 0.82 s, the rest 1.23: in all less than 3 % of 85 s
        (0.1, False),  # 0.7 s and 1.05 s, of 53 s
        (4.0, False),  # 8.5 s and 12.75 s: 10 are the most, however long the training is
    ],
)
def test_measuring_ends_where_it_would_cost_too_much(float32: float, measures: bool) -> None:
    laboratory = Laboratory(float32, 0.1)
    rates, seconds = laboratory.trial(Work(0, 17_000, 5)).run()
    assert (rates is not None) is measures
    if measures:
        assert seconds <= 0.03 * 17_000 * float32 / 32
    else:
        assert [case[:2] for case in laboratory.built] == [("float32", False)]


def test_taps_are_left_to_the_table_where_time_is_short(tmp_path: Path) -> None:
    cpuinfo = write_cpuinfo(tmp_path, AMD, "avx512_bf16")
    laboratory = Laboratory(0.16, 0.08)
    choice = choose_precision("auto", DEFAULT, laboratory.trial(Work(0, 17_000, 5)), cpuinfo=cpuinfo)
    assert [case[:2] for case in laboratory.built] == [("float32", False), ("bfloat16", False)]
    assert (choice.how, choice.name, choice.kernel_gradient) == ("measured", "bfloat16", True)


def test_large_images_are_timed_in_smaller_batches() -> None:
    laboratory = Laboratory(0.2, 0.1)
    trial = PrecisionTrial(
        make_settings(weights="none", batch_size=32),
        224,
        Work(10**6, 0),
        clock=laboratory.clock,
        make_step=laboratory.make_step,
        flops_per_second=3.5e11,
    )
    assert trial.run()[0] is not None
    assert {images for _, _, images in laboratory.built} == {8}
    assert trial.key["batch"] == 32


def test_a_step_too_long_by_arithmetic_builds_nothing() -> None:
    """8 images of 224 px are 245 GFLOP, of which 45 a second make 22 s for the four steps that a verdict takes."""
    laboratory = Laboratory(0.2, 0.1)
    trial = PrecisionTrial(
        make_settings(weights="none", batch_size=32),
        224,
        Work(10**6, 0),
        clock=laboratory.clock,
        make_step=laboratory.make_step,
        flops_per_second=4.5e10,
    )
    assert trial.run() == (None, 0.0)
    assert not laboratory.built


def test_a_first_step_of_half_the_budget_is_the_last() -> None:
    laboratory = Laboratory(5.0, 0.1)
    assert laboratory.trial().run() == (None, pytest.approx(5.5))


def test_budget_is_the_lesser_of_share_and_seconds() -> None:
    assert Budget().within(100.0) == pytest.approx(3.0)
    assert Budget().within(10_000.0) == 10.0


def test_the_kind_of_step_is_what_takes_the_most_time() -> None:
    assert Work(100, 0).kind == Work(301, 100, 1).kind == "forward"
    assert Work(299, 100, 1).kind == Work(0, 1, 1).kind == "train"
    assert Work(300, 50).expect_seconds(0.1) == pytest.approx(45.0)
    assert Work(90, 100, 1).expect_seconds(0.1) == pytest.approx(13.0)


def test_work_is_counted_as_the_phases_do_it() -> None:
    settings = make_settings(head_epochs=4, fine_tune_epochs=3, fine_tune_blocks=2, weights="none")
    assert plan_work(settings, 100, 10) == Work(100 + 4 * 10, 300, 2)  # features are computed once
    assert plan_work(settings.model_copy(update={"feature_cache": "off"}), 100, 10) == Work(4 * 110 + 30, 300, 2)
    augmented = settings.model_copy(update={"random_flip": True})
    assert plan_work(augmented, 100, 10) == Work(4 * 110 + 30, 300, 2)
    views = augmented.model_copy(update={"feature_cache_views": 3})
    assert plan_work(views, 100, 10) == Work(300 + 10 + 30, 300, 2)
    assert plan_work(settings.model_copy(update={"fine_tune_epochs": 0}), 100, 10) == Work(110, 0)


def test_what_was_measured_is_remembered_for_the_very_case(xeon: Path, cache: Path) -> None:
    measured = choose_precision("auto", DEFAULT, Laboratory(0.2, 0.1, 0.15).trial(), cpuinfo=xeon)
    assert cache.is_file()
    assert sorted(path.name for path in cache.parent.iterdir()) == [cache.name]
    again = Laboratory(0.2, 0.9)
    # Also where the training is too short to measure.
    remembered = choose_precision("auto", DEFAULT, again.trial(Work(0, 10, 5)), cpuinfo=xeon)
    assert remembered == replace(measured, how="remembered", seconds=0.0)
    assert not again.built
    other = Laboratory(0.2, 0.9)
    assert choose_precision("auto", DEFAULT, other.trial(backbone="vgg19"), cpuinfo=xeon).how == "measured"
    epyc = write_cpuinfo(xeon.parent, AMD, "avx512_bf16", "AMD EPYC")
    assert choose_precision("auto", DEFAULT, Laboratory(0.2, 0.9).trial(), cpuinfo=epyc).how == "measured"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "\x00",
        lambda text: text.replace('"bfloat16"', '"float16"'),
        lambda text: text.replace("160.0", '"160"'),
        lambda text: json.dumps(dict.fromkeys(json.loads(text), 1)),
    ],
)
def test_a_damaged_memory_is_ignored_and_replaced(xeon: Path, cache: Path, damage: Callable[[str], str]) -> None:
    choose_precision("auto", DEFAULT, Laboratory(0.2, 0.1, 0.15).trial(), cpuinfo=xeon)
    cache.write_text(damage(cache.read_text()))
    assert choose_precision("auto", DEFAULT, Laboratory(0.2, 0.9).trial(), cpuinfo=xeon).how == "measured"
    assert choose_precision("auto", DEFAULT, Laboratory(0.2, 0.1).trial(), cpuinfo=xeon).how == "remembered"


def test_a_place_that_cannot_be_written_is_no_error(xeon: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder would be made")
    for _ in range(2):
        assert choose_precision("auto", DEFAULT, Laboratory(0.2, 0.1).trial(), cpuinfo=xeon).how == "measured"


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    path = memory_path()
    assert path is not None
    assert path.relative_to(Path.home()).parts[0] == ".cache"


def test_memory_forgets_the_oldest(cache: Path) -> None:
    for number in range(201):
        remember({"number": number}, {})
    assert recall({"number": 0}) is None
    assert recall({"number": 1}) == recall({"number": 200}) == {}


def test_a_saved_choice_is_kept_whatever_is_measured_or_remembered(tmp_path: Path, xeon: Path) -> None:
    saved = PrecisionChoice("bfloat16", "measured", True, 10.0, 20.0, 4.0)
    config = {"trainer": {"precision": "auto"}}
    root = str(tmp_path / "resume")
    checkpoint_dir = open_checkpoint_dir(root, config, [], "killed")
    assert checkpoint_dir.load_choices() == {}
    checkpoint_dir.save_choices({"precision": saved.to_record()})
    checkpoint_dir.save(TrainingState(), [tf.Variable(1.0)])
    resumed = open_checkpoint_dir(root, config, [], "resumed")
    found = PrecisionChoice.from_record(resumed.load_choices()["precision"], "saved")
    assert found == replace(saved, how="saved", seconds=0.0)
    assert choose_precision("auto", DEFAULT, Unasked(), saved=found, deterministic=True, cpuinfo=xeon) == found
    assert choose_precision("float32", DEFAULT, Unasked(), saved=found, cpuinfo=xeon).how == "setting"
    assert open_checkpoint_dir(root, {"trainer": {"precision": "bfloat16"}}, [], "other").load_choices() == {}


def test_only_the_chief_writes_the_choice(tmp_path: Path) -> None:
    folder = str(tmp_path / "shared")
    CheckpointDir(folder, str(tmp_path / "own")).save_choices({"precision": {}})
    assert CheckpointDir(folder).load_choices() == {}


@pytest.mark.parametrize(
    "backbone", [name if name == "vgg16" else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
)
def test_multiply_adds_are_those_of_the_layers(backbone: str) -> None:
    network = make_backbone(backbone, 224)
    kinds = tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense
    layers = [layer for layer in iterate_layers(network) if isinstance(layer, kinds)]
    counted = sum(np.prod(layer.weights[0].shape) * np.prod(layer.output_shape[1:-1], dtype=float) for layer in layers)
    assert counted / 1e9 == pytest.approx(BACKBONES[backbone].multiply_adds, abs=5e-4)


@pytest.mark.parametrize("work", [pytest.param(Work(1, 0), marks=pytest.mark.slow), Work(0, 1, 1)])
def test_a_real_model_is_timed_and_leaves_no_trace(work: Work) -> None:
    settings = make_settings(weights="none", batch_size=2, seed=3)
    with narrow_vgg():
        tf_keras.utils.set_random_seed(3)
        expected = make_model(3, 32, 0.0, "float32").get_weights()
        tf_keras.utils.set_random_seed(3)
        choice = choose_precision("auto", DEFAULT, PrecisionTrial(settings, 32, work, budget=None))
        found = make_model(3, 32, 0.0, "float32").get_weights()
    assert choice.how == "measured"
    assert choice.float32_rate is not None
    assert choice.bfloat16_rate is not None
    assert choice.float32_rate > 0 < choice.bfloat16_rate
    assert tf_keras.mixed_precision.global_policy().name == "float32"
    # The weights that training starts from do not tell whether something was measured before.
    for one, value in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, value)
