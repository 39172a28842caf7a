"""One trial of an export: ask a fresh process, compute apart, compare."""

import itertools
import os

import numpy as np
import tensorflow as tf
import tf_keras

from components.exported_model.decision import decide_always
from components.exported_model.manifest import MANIFEST_FILE, Manifest, read_manifest, read_vocabulary
from components.exported_model.signatures import (
    CLASSIFYING_SIGNATURES,
    SERVING_SIGNATURE,
    SIGNATURES,
    TRANSFORM_SIGNATURE,
)
from components.exported_model.weights import UnreadableWeights
from components.progress import report_progress
from components.serving_validator.array_checks import ArrayProbe, check_arrays, make_array_probes
from components.serving_validator.checks import (
    ProbeJudge,
    check_bound,
    check_signatures,
    check_transform,
    check_vocabulary,
)
from components.serving_validator.comparison import ServedProbabilities, UnlikeAnswer, read_answer
from components.serving_validator.findings import Finding
from components.serving_validator.fresh_process import (
    Answer,
    Answers,
    Call,
    FreshProcess,
    ProcessDied,
    start_fresh_process,
)
from components.serving_validator.preprocessing_check import check_preprocessing, make_candidates
from components.serving_validator.probes import BATCH_SIZES, Probe, make_example, make_probes, read_examples
from components.serving_validator.reference import Reference
from components.serving_validator.settings import ServingValidatorSettings
from components.serving_validator.verdict_checks import VerdictJudge, judge_verdicts
from components.trainer.backbones import BACKBONES
from data.originals import read_originals

TEST_SPLIT = "test"
_WARM_UP_CALLS = 3
_LATENCY_CALLS = 50
_LATENCY_SECONDS = 6.0


def validate(
    settings: ServingValidatorSettings,
    *,
    saved_model_path: str,
    examples_uri: str,
    transform_graph_uri: str,
) -> tuple[list[Finding], dict[str, float]]:
    """Makes all checks.

    Args:
        settings: how much to try, and the bounds.
        saved_model_path: local or remote folder of the export.
        examples_uri: of the raw examples, with a `test` split.
        transform_graph_uri: of Transform's output.

    Returns:
        The findings, and figures by name: `load_seconds`, `latency_p50_ms`, `latency_p95_ms`, `model_mb`; those that
        could not be measured are missing.
    """
    size = sum(_file_sizes(saved_model_path)) / 1e6
    findings = [check_bound("size", size, settings.max_model_mb, f"{size:.1f} MB")]
    measured = {"model_mb": size}
    manifest = read_manifest(saved_model_path)
    if manifest is None:
        return [*findings, Finding("manifest", False, f"it has no {MANIFEST_FILE}, which says what it is")], measured
    report_progress("loading the export in a fresh process")
    with start_fresh_process(saved_model_path) as process:
        examples = read_examples(os.path.join(examples_uri, f"Split-{TEST_SPLIT}"), settings.images)
        probes = make_probes(examples, read_originals(examples_uri), manifest.bit_depth)
        try:
            reference = Reference(saved_model_path, manifest, transform_graph_uri)
            expected = _Expected(reference, probes, manifest)
        except UnreadableWeights as error:
            return [*findings, Finding("weights", False, str(error))], measured
        finally:
            tf_keras.backend.clear_session()
        report_progress("asking it for predictions")
        try:
            answers, by_probe = _ask(process, probes, expected.array_probes)
        except ProcessDied as died:
            return [*findings, Finding("loads", False, f"a fresh process cannot serve the model: {died}")], measured
    findings.append(Finding("loads", True, f"a fresh process loaded it in {answers.load_seconds:.1f} s"))
    findings.append(check_signatures(answers.signatures, len(reference.classes)))
    findings.append(check_vocabulary(manifest.classes, reference.classes, "manifest"))
    findings.append(check_vocabulary(read_vocabulary(saved_model_path), reference.classes))
    findings.append(check_transform(answers.calls[0], expected.packed_tests))
    judge = ProbeJudge(reference.classes, settings.tolerance, expected.probabilities, answers)
    findings.extend(judge.judge(probes, by_probe))
    array_answers = answers.calls[len(answers.calls) - len(expected.array_probes) :]
    findings.extend(check_arrays(expected.array_probes, array_answers, reference.classes, settings.tolerance))
    rule = manifest.decision or decide_always(reference.classes)
    verdicts = VerdictJudge(reference.classes, rule, settings.tolerance)
    findings.extend(judge_verdicts(verdicts, expected.answers, by_probe))
    served = _readable(probes, by_probe, reference.classes)
    findings.extend(check_preprocessing(BACKBONES[manifest.backbone], served, expected.candidates))
    measured["load_seconds"] = answers.load_seconds
    if latencies := answers.latencies_ms:
        p50, p95 = (float(value) for value in np.percentile(latencies, [50, 95]))
        measured.update(latency_p50_ms=p50, latency_p95_ms=p95)
        message = f"one image takes {p50:.1f} ms (p50), {p95:.1f} ms (p95) of {len(latencies)} calls on the CPU"
        findings.append(check_bound("latency", p95, settings.max_latency_p95_ms, message))
    elif settings.max_latency_p95_ms is not None:
        findings.append(Finding("latency", False, "could not be measured", None, settings.max_latency_p95_ms))
    return findings, measured


class _Expected:
    """What the answers must be, computed while the fresh process loads the model."""

    def __init__(self, reference: Reference, probes: list[Probe], manifest: Manifest) -> None:
        right = BACKBONES[manifest.backbone].preprocessing
        readable = [probe for probe in probes if probe.expected is not None]
        encoded = [image for probe in readable for image in probe.expected or ()]
        packed = reference.transform([make_example(image) for image in encoded])
        images = reference.unpack(packed)
        values, scores = reference.answer(images, right)
        self.answers, self.candidates, start = {}, {}, 0
        by_probe = {}
        tests = []
        for probe in readable:
            place = slice(start, start + len(probe.expected or ()))
            self.answers[probe.name] = values[place], scores[place]
            by_probe[probe.name] = images[place]
            if probe.check == "colours":
                self.candidates = {
                    name: reference.probabilities(images[place], preprocessing)
                    for name, preprocessing in make_candidates(right).items()
                }
            if probe.check == "batches":
                tests.append(packed[place])
            start = place.stop
        self.packed_tests = np.concatenate(tests)
        self.probabilities = {name: found for name, (found, _) in self.answers.items()}
        self.array_probes = make_array_probes(
            probes, by_probe, self.probabilities, reference.evidence, manifest.bit_depth
        )


def _ask(
    process: FreshProcess, probes: list[Probe], array_probes: list[ArrayProbe]
) -> tuple[Answers, dict[tuple[str, str], Answer]]:
    tests = tuple(example for probe in probes if probe.check == "batches" for example in probe.examples or ())
    calls = [Call(TRANSFORM_SIGNATURE, SIGNATURES[TRANSFORM_SIGNATURE].argument, tests)]
    keys = []
    # One decoder and one network are behind all signatures: for formats, and where a batch is large, they
    # take turns.
    turns = itertools.cycle(CLASSIFYING_SIGNATURES)
    for probe in probes:
        alone = probe.check in ("formats", "originals") or len(probe.images) >= BATCH_SIZES[-1]
        signatures = [next(turns)] if alone else list(CLASSIFYING_SIGNATURES)
        as_examples = probe.examples or tuple(make_example(image) for image in probe.images)
        for signature in signatures:
            keys.append((probe.name, signature))
            images = probe.images if signature == SERVING_SIGNATURE else as_examples
            calls.append(Call(signature, SIGNATURES[signature].argument, images))
    calls.extend(probe.call for probe in array_probes)
    first = probes[0].images[0]
    timed = Call(SERVING_SIGNATURE, SIGNATURES[SERVING_SIGNATURE].argument, (first,))
    answers = process.ask(
        calls,
        timed,
        warm_up_calls=_WARM_UP_CALLS,
        latency_calls=_LATENCY_CALLS,
        latency_seconds=_LATENCY_SECONDS,
    )
    return answers, dict(zip(keys, answers.calls[1 : len(keys) + 1], strict=True))


def _readable(
    probes: list[Probe], answers: dict[tuple[str, str], Answer], classes: list[str]
) -> dict[str, ServedProbabilities]:
    """Returns signature -> its answer to the coloured pictures, where it can be read."""
    found = {}
    for probe in (probe for probe in probes if probe.check == "colours"):
        for signature in CLASSIFYING_SIGNATURES:
            try:
                found[signature] = read_answer(answers[probe.name, signature], classes, len(probe.images))
            except UnlikeAnswer:
                continue  # The findings on batches tell.
    return found


def _file_sizes(folder: str) -> list[int]:
    return [
        tf.io.gfile.stat(os.path.join(place, name)).length
        for place, _, names in tf.io.gfile.walk(folder)
        for name in names
    ]
