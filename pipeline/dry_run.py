"""`python -m pipeline.run_local --dry-run`: what a run would do, take and refuse; writes nothing into its folder."""

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from components.evaluator.eval_config import make_eval_config
from components.model_converter.formats import check_installed
from components.schema_gen.component import hash_schema
from components.trainer.backbones import count_features
from components.trainer.devices import check_batch
from components.trainer.recipes import Facts, Plan, resolve_recipe
from components.trainer.strategy import count_hosts, is_tpu_strategy, make_strategy, runs_on_cpu
from components.trainer.weights import ResolvedWeights, resolve_weights
from components.transform.resize import resize_image
from data import gfile
from data.class_names import describe_similar
from data.corrections import describe_corrections
from data.corrections_file import read_corrections
from data.errors import UserError
from data.features import SPLITS
from data.groups import describe_groups
from data.selection_check import check_selection, describe_unjudged
from data.sources import make_source
from data.sources.relabelled import read_notes
from data.spans import describe_spans, make_span_facts
from data.split_origins import describe_split_origins
from data.splits import Selection, choose_images
from data.survey import Survey, survey_source
from pipeline.clean import describe_bytes
from pipeline.config import PipelineConfig
from pipeline.dry_run_costs import Costs, estimate_costs
from pipeline.output_dir import OutputDir
from pipeline.time_left import describe_seconds

_SHOWN = 5
_SHOWN_CLASSES = 20


@dataclass
class Findings:
    """What a dry run tells.

    Attributes:
        lines: (title, text), in order.
        problems: what a run would refuse, each as the run would say it.
        warnings: what it may refuse, or what is odd.
    """

    lines: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def tell(self, title: str, text: str) -> None:
        """Adds a line."""
        self.lines.append((title, text))

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Makes a mistake of the user that ends the block a problem."""
        try:
            yield
        except UserError as mistake:
            self.problems.append(str(mistake))


def look_ahead(config: PipelineConfig, output: OutputDir, progress: Callable[[str], None]) -> Findings:
    """Looks at all that can be known before a run.

    Args:
        config: of the run.
        output: its folder, which need not be there.
        progress: is told what is being done.
    """
    found = Findings()
    progress("looking at the output folder")
    has_baseline = _look_at_output(found, output)
    with found.collecting():
        _check_serving_dir(config)
    with found.collecting():
        if config.schema_path is not None:
            hash_schema(config.schema_path)
    with found.collecting():
        check_installed(config.export.formats)
    if config.export.formats:
        found.tell("formats", f"{', '.join(config.export.formats)}: of a model that is pushed")
    progress("looking for the weights")
    weights = None
    with found.collecting():
        weights = resolve_weights(config.trainer.weights, config.trainer.backbone, mirror=config.trainer.weights_mirror)
        found.tell("weights", weights.kind + (f", random ones instead: {weights.reason}" if weights.reason else ""))
    progress("listing and sampling images")
    survey = None
    with found.collecting():
        survey = _survey(found, config)
    selection = None
    if survey is not None:
        with found.collecting():
            selection = _look_at_images(found, config, survey)
    if survey is None or selection is None or weights is None:
        return found
    with found.collecting():
        make_eval_config(config.evaluator, sorted(selection.counts["train"]))
    if config.trainer.strategy == "multi_worker":
        found.warnings.append("trainer.strategy is multi_worker: what that takes cannot be measured on one machine")
        return found
    with found.collecting():
        plan = _plan(config, weights, selection)
        check_batch(
            plan.settings.batch_size, make_strategy(config.trainer.strategy, config.trainer.tpu).num_replicas_in_sync
        )
        for reason in plan.reasons:
            found.tell("recipe", reason)
        progress("timing this machine")
        counts = {split: sum(selection.counts[split].values()) for split in SPLITS}
        counts = {split: round(count * survey.images / max(1, len(survey.records))) for split, count in counts.items()}
        costs = estimate_costs(config, survey, plan, counts, has_baseline=has_baseline)
        _tell_costs(found, costs, output)
    return found


def _look_at_output(found: Findings, output: OutputDir) -> bool:
    """Returns whether a model of the folder was blessed."""
    with found.collecting():
        output.check_name()
    with found.collecting():
        output.check_space(shutil.disk_usage(_nearest(output.root)).free)
    if not os.access(_nearest(output.root), os.W_OK) or (output.root.exists() and not output.root.is_dir()):
        found.problems.append(f"{output.root}: cannot be used as the output folder; choose another with --output-dir")
    if (output.root / ".lock").exists():
        with (output.root / ".lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = lock.read().decode().strip() or "unknown"
                found.problems.append(f"{output.root}: another run (process {owner}) is using this output folder")
    if not output.metadata_path.is_file():
        found.tell("output", f"{output.root}: {'no runs yet' if output.root.exists() else 'will be made'}")
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{output.metadata_path.as_uri()}?mode=ro", uri=True)) as database:
            (runs,) = database.execute(
                "SELECT COUNT(*) FROM Context JOIN Type ON Context.type_id = Type.id WHERE Type.name = 'pipeline_run'"
            ).fetchone()
            (blessed,) = database.execute(
                "SELECT COUNT(*) FROM ArtifactProperty JOIN Artifact ON Artifact.id = ArtifactProperty.artifact_id JOIN"
                " Type ON Artifact.type_id = Type.id WHERE Type.name = 'ModelBlessing' AND Artifact.state = 2 AND"
                " ArtifactProperty.name = 'blessed' AND ArtifactProperty.int_value = 1"
            ).fetchone()
    except sqlite3.DatabaseError as error:
        found.problems.append(
            f"{output.metadata_path}: is damaged ({error}); remove it to run everything anew, or choose another output"
            " folder"
        )
        return False
    same = "; what did not change since then is served from cache" if runs else ""
    found.tell("output", f"{output.root}: {runs} runs, {blessed} blessed models{same}")
    return bool(blessed)


def _nearest(path: Path) -> Path:
    """Returns the folder itself, or the nearest one above that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _check_serving_dir(config: PipelineConfig) -> None:
    place = config.serving_model_dir
    if place and gfile.is_s3(place):
        gfile.exists(place)  # Says so where the bucket is none, or cannot be reached.
    if place and "://" not in place and not os.access(_nearest(Path(place).resolve()), os.W_OK):
        raise UserError(f"serving_model_dir is {place}, which cannot be written; choose another")


def _survey(found: Findings, config: PipelineConfig) -> Survey:
    source = make_source(config.data)
    source.fingerprint()
    ignored = source.prepare()
    found.tell("images", " ".join(filter(None, [config.data.source, config.data.path])))
    if spans := describe_spans(make_span_facts(getattr(source, "spans", ()))):
        found.tell("spans", spans)
    for note in read_notes(source):
        found.tell("", note)
    if ignored:
        more = ", ..." if len(ignored) > _SHOWN else ""
        found.tell("ignored", f"{len(ignored):,}: {', '.join(ignored[:_SHOWN])}{more}")
    return survey_source(source, config.data, lambda image: resize_image(image, config.transform))


def _look_at_images(found: Findings, config: PipelineConfig, survey: Survey) -> Selection:
    """Tells splits and classes, and what is wrong with the sample.

    Raises:
        UserError: a run would refuse these images.
    """
    certain = survey.contents_known and survey.sampled == len(survey.records)
    corrections = read_corrections(config.data.corrections) if config.data.corrections else None
    selection = choose_images(survey.records, config.data, corrections=corrections if survey.contents_known else None)
    about = "" if survey.images == len(survey.records) else "about "
    found.tell("", f"{about}{survey.images:,} images, {describe_bytes(survey.encoded_bytes)}; {survey.sampled} decoded")
    for split in SPLITS:
        counts = {name: count for name, count in selection.counts[split].items() if count}
        share = selection.rules.cut.get(split)
        how = (
            "" if share is None else f" (cut from train, {100 * share:g} %{'' if survey.contents_known else ', about'})"
        )
        shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:_SHOWN_CLASSES])
        more = f", ... ({len(counts)} classes)" if len(counts) > _SHOWN_CLASSES else ""
        found.tell(split, f"{sum(counts.values()):,}{how}: {shown}{more}")
    if selection.left_out:
        labels = ", ".join(f"{label} {number:,}" for label, number in selection.left_out.items())
        found.tell("left out", f"{sum(selection.left_out.values()):,} by data.labels: {labels}")
    if selection.corrections:
        found.tell("labels", describe_corrections(selection.corrections))
    if groups := describe_groups(selection.groups):
        found.tell("groups", groups)
    if origins := describe_split_origins(selection.origins):
        found.tell("splits", origins)
    for told in (describe_similar(selection.counts["train"]), describe_unjudged(selection.counts)):
        if told:
            found.warnings.append(told)
    if selection.duplicates_dropped:
        found.tell("copies", f"{selection.duplicates_dropped:,} left out, since another split holds the same bytes")
    if selection.quarantined:
        first = "; ".join(f"{name} ({reason})" for name, reason in selection.quarantined[:_SHOWN])
        more = "; ..." if len(selection.quarantined) > _SHOWN else ""
        found.warnings.append(f"{len(selection.quarantined):,} images cannot be used: {first}{more}")
    share = len(survey.bad) / max(1, survey.sampled)
    if not certain and share > config.data.max_quarantined_share:
        found.warnings.append(
            f"{len(survey.bad)} of {survey.sampled} sampled images cannot be used, more than data.max_quarantined_share"
            f"={config.data.max_quarantined_share} allows of all: a run may refuse them"
        )
    try:
        check_selection(selection, config.data)
    except UserError as mistake:
        # Of estimated splits chance may leave one without a class; of what is bad there can only be more, where all
        # images are named.
        named = survey.images == len(survey.records)
        if survey.contents_known or (named and (not selection.rules.cut or "cannot be used" in str(mistake))):
            raise
        found.warnings.append(f"by estimate: {mistake}")
    return selection


def _plan(config: PipelineConfig, weights: ResolvedWeights, selection: Selection) -> Plan:
    strategy = make_strategy(config.trainer.strategy, config.trainer.tpu)
    names = sorted(selection.counts["train"])
    facts = Facts(
        train_counts=tuple(selection.counts["train"][name] for name in names),
        eval_counts=tuple(selection.counts["eval"][name] for name in names),
        image_size=config.transform.image_size,
        device="tpu" if is_tpu_strategy(strategy) else "cpu" if runs_on_cpu(strategy) else "gpu",
        hosts=count_hosts(strategy),
        backbone=config.trainer.backbone,
        weights="none" if weights.path is None else "imagenet" if weights.kind == "imagenet" else "file",
        features=count_features(config.trainer.backbone, config.trainer.pooling),
    )
    return resolve_recipe(config.trainer.model_copy(update={"weights": weights.kind}), facts)


def _tell_costs(found: Findings, costs: Costs, output: OutputDir) -> None:
    parts = Counter(costs.seconds).most_common(4)
    named = ", ".join(f"{node} {describe_seconds(seconds)}" for node, seconds in parts)
    found.tell("time", f"about {describe_seconds(sum(costs.seconds.values()))} if nothing is cached: {named}, ...")
    found.tell("", f"{costs.images_per_second:.3g} images/s {costs.step} in {costs.precision}, measured just now")
    found.tell("disk", f"about {describe_bytes(costs.disk_bytes)} in the output folder")
    found.tell("memory", f"about {describe_bytes(costs.memory_bytes)} at the peak")
    free = shutil.disk_usage(_nearest(output.root)).free
    if costs.disk_bytes > free:
        found.problems.append(
            f"{output.root}: lies on a disk with {describe_bytes(free)} left, and the run needs about"
            f" {describe_bytes(costs.disk_bytes)}; free some, or choose another with --output-dir"
        )
    memory = _total_memory_bytes()
    if memory and costs.memory_bytes > memory:
        found.warnings.append(
            f"this machine has {describe_bytes(memory)} of memory, less than the run is expected to need"
        )


def _total_memory_bytes() -> int:
    with contextlib.suppress(ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0
