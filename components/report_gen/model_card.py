"""The model card: what the model is for, what it was made from, how good it is, where its limits are.

Source: Mitchell et al. 2019, Model Cards for Model Reporting. Written from the facts of the run alone: what a run
cannot know (who may use it for what) is said to be missing.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from components.model_converter.record import describe_conditions, describe_figures, describe_formats
from components.report_gen.account import Account
from components.report_gen.decisions import decision_lines
from components.report_gen.numbers import format_interval, format_number
from components.report_gen.training_text import (
    pooling_text,
    recipe_lines,
    shipped_text,
    solved_text,
    stepped_epochs,
    temperature_text,
)
from data.corrections import describe_corrections

_WEAK_RECALL = 0.8
_FEW_IMAGES = 30
_LISTED = 10


def make_card(account: Account) -> dict[str, list[str]]:
    """Returns the sections of the card: title to lines."""
    return {
        "Model": list(_model(account)),
        "Intended use": list(_use()),
        "Training data": list(_data(account)),
        "Evaluation": list(_evaluation(account)),
        **({"Formats": list(_formats(account.formats))} if account.formats else {}),
        "Limits": list(_limits(account)),
    }


def render_card(account: Account) -> str:
    """Returns the card as Markdown."""
    parts = [f"# Model card: {_plain(account.name)}\n"]
    for title, lines in make_card(account).items():
        parts.append(f"## {title}\n\n" + "".join(f"- {_plain(line)}\n" for line in lines))
    return "\n".join(parts)


def _plain(text: str) -> str:
    """Escapes what Markdown would take for markup in names of classes and files."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>|" else character for character in text)


def _model(account: Account) -> Iterator[str]:
    training, classes = account.training, account.classes
    if training:
        settings, weights = training["settings"], training["weights"]
        start = "random weights" if weights["kind"] == "none" else f"weights: {weights['kind']}"
        if weights.get("sha256"):
            start += f" (SHA-256 {weights['sha256'][:16]}...)"
        features = pooling_text(training)
        yield f"An image classifier: {settings['backbone']}, {features}, a dense layer; it started from {start}."
        yield from (f"{line}." for line in recipe_lines(training))
        epochs = len(stepped_epochs(training))
        yield (
            f"Trained on {training['strategy']} in {training['precision']} for {epochs} epochs; shipped: "
            f"{shipped_text(training)}."
        )
        for text in solved_text(training), temperature_text(training):
            if text:
                yield f"{text[0].upper()}{text[1:]}."
    else:
        yield "A model whose training is not recorded here."
    names = ", ".join(row.name for row in classes[:_LISTED]) + (", ..." if len(classes) > _LISTED else "")
    yield f"It answers with one of {len(classes)} classes: {names}."
    yield f"It was {account.verdict.describe()}."


def _use() -> Iterator[str]:
    yield "For pictures like those it was trained on, each of which shows one of the classes above."
    yield "For anything else it answers with one of these classes all the same, often with a high probability."
    yield "Who may use it for which decisions is not recorded in this pipeline: write it here before it ships."


def _data(account: Account) -> Iterator[str]:
    data = account.data
    if not data:
        yield "Not recorded here."
        return
    totals = {split: sum(data["counts"][split].values()) for split in data["splits"]}
    yield "Images: " + ", ".join(f"{split} {count:,}" for split, count in totals.items()) + "."
    train = data["counts"].get("train", {})
    if train:
        least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
        yield f"The smallest class in train is {least} ({train[least]:,}), the largest {most} ({train[most]:,})."
    yield f"{data['quarantined']:,} files could not be used; {data['duplicates_dropped']:,} copies were dropped."
    if left_out := data.get("left_out"):
        yield f"{sum(left_out.values()):,} images were left out by their labels: {', '.join(left_out)}."
    yield from data.get("told", [])
    if corrections := data.get("corrections"):
        sha256 = (account.corrected or {}).get("sha256")
        named = f" (SHA-256 {sha256})" if sha256 else ""
        yield f"Labels corrected by a file{named}: {describe_corrections(corrections)}."
    if account.duplicates:
        counts = account.duplicates["count"]
        yield "Near duplicates: " + "; ".join(f"{pair} {count:,}" for pair, count in counts.items()) + "."


def _evaluation(account: Account) -> Iterator[str]:
    yield f"Measured on {account.images:,} test images, which chose no weights, epoch, setting or threshold."
    for figure in account.headline:
        interval = f" ({format_interval(figure.interval)}, 95 %, {figure.method})" if figure.interval else ""
        yield f"{figure.label}: {format_number(figure.value)}{interval}"
    yield from decision_lines(account.decisions)
    if account.corrected:
        yield corrected_text(account.corrected)


def _formats(record: dict[str, Any]) -> Iterator[str]:
    if record["reason"]:
        yield f"None: {record['reason']}."
        return
    yield f"SavedModel: {describe_figures(record['saved_model'])}"
    for line, kept in describe_formats(record):
        yield line if kept else f"Refused: {line}"
    yield describe_conditions(record)


def corrected_text(corrected: dict[str, Any]) -> str:
    """Returns what corrections of the test split's labels did to the accuracy."""
    images = corrected["test_images"]
    if not images:
        return "No label of the test split was corrected."
    return (
        f"Labels of {images:,} test image{'s' * (images != 1)} were corrected: accuracy "
        f"{format_number(corrected['accuracy'])} with the corrected labels, "
        f"{format_number(corrected['accuracy_before'])} with those before. They were doubted because a model "
        "disagreed with them, so that the first is likely too good; mistakes that models share with the labels stay."
    )


def shortcut_text(shortcut: dict[str, Any]) -> str:
    """Returns what can be told from one simple figure alone."""
    parts = []
    if shortcut["all"]:
        parts.append(
            f"the class can be told from the {shortcut['meaning']} alone: {shortcut['recall']:.2f} "
            f"(mean recall; {shortcut['chance']:.2f} by chance)"
        )
    if shortcut["classes"]:
        names = ", ".join(shortcut["classes"][:_LISTED])
        parts.append(f"the {shortcut['meaning']} alone tells from all others: {names}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. A model may have learned that in place of what the images show."


def _limits(account: Account) -> Iterator[str]:
    recalls = [(row.recall, row.name) for row in account.classes if row.recall is not None and row.support]
    weak = sorted((one for one in recalls if one[0] < _WEAK_RECALL), key=itemgetter(0))
    if weak:
        names = ", ".join(f"{name} ({format_number(recall)})" for recall, name in weak[:_LISTED])
        more = f" and {len(weak) - _LISTED} more" if len(weak) > _LISTED else ""
        yield f"Classes of which it recognises less than {_WEAK_RECALL:.0%}: {names}{more}."
    few = [row.name for row in account.classes if row.support < _FEW_IMAGES]
    if few:
        names = ", ".join(few[:_LISTED]) + (f" and {len(few) - _LISTED} more" if len(few) > _LISTED else "")
        yield f"Fewer than {_FEW_IMAGES} test images, so that their figures say little: {names}."
    if doubts := account.doubts:
        counts = [f"{split} {of['label']:,}" for split, of in doubts["counts"].items() if of["label"]]
        if counts:
            yield f"Doubtful labels{'' if doubts['all_splits'] else ', looked for in test alone'}: {', '.join(counts)}."
        yield from map(shortcut_text, doubts["shortcuts"])
    yield "Its figures hold for pictures drawn like the test split; those of another camera or place were not measured."
