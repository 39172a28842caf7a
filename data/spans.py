"""`{SPAN}` in `data.path`, as in TFX: a number that each delivery of images has, of which a run reads the newest."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data import gfile
from data.errors import UserError

_TOKEN = re.compile(r"\{SPAN(?::([1-9]\d?))?\}")
_UNKNOWN = re.compile(r"\{(SPAN|VERSION|YYYY|MM|DD)[^{}]*\}")


@dataclass(frozen=True)
class Span:
    """One delivery.

    Attributes:
        number: what stands in the place of `{SPAN}`.
        path: `data.path` with it.
    """

    number: int
    path: str


def has_span(path: str | None) -> bool:
    """Says whether a path holds `{SPAN}` or something like it."""
    return path is not None and _UNKNOWN.search(path) is not None


def check_span_pattern(path: str) -> None:
    """Refuses what `find_spans` cannot read.

    Raises:
        ValueError: another of TFX's words, or several spans.
    """
    unknown = [match.group() for match in _UNKNOWN.finditer(path) if not _TOKEN.fullmatch(match.group())]
    if unknown or len(_TOKEN.findall(path)) > 1:
        what = f"holds {unknown[0]}" if unknown else "holds several spans"
        raise ValueError(
            f"path is {path!r}, which {what}; one {{SPAN}} is read, or {{SPAN:N}} for numbers of N digits"
            " (20261131 is {SPAN:8})"
        )


def find_spans(pattern: str, most: int = 1) -> list[Span]:
    """Returns the newest deliveries, those of the highest numbers, the oldest of them first.

    Args:
        pattern: a path with one `{SPAN}`; a delivery in which the rest of the path does not lie is none (yet).
        most: how many; fewer where there are no more.

    Raises:
        UserError: there is none, or two have the same number.
    """
    token = _TOKEN.search(pattern)
    assert token is not None, "checked by DataSettings"
    start = pattern.rfind("/", 0, token.start()) + 1
    end = pattern.find("/", token.end()) % (len(pattern) + 1)  # -1 is the end
    folder, level = pattern[:start] or ".", pattern[start:end]
    before, after = (_make_expression(part) for part in (level[: token.start() - start], level[token.end() - start :]))
    digits = rf"\d{{{token.group(1)}}}" if token.group(1) else r"\d+"
    expression = re.compile(f"{before}({digits}){after}")
    texts: dict[int, str] = {}
    for name in _list(folder, pattern):
        if found := expression.fullmatch(name.rstrip("/")):
            number = int(found.group(1))
            if texts.setdefault(number, found.group(1)) != found.group(1):
                raise UserError(
                    f"data.path is {pattern}, and {texts[number]} and {found.group(1)} in {folder} are the same number;"
                    f" rename one, or say how many digits it has, such as {{SPAN:{len(texts[number])}}}"
                )
    spans: list[Span] = []
    for number in sorted(texts, reverse=True):
        path = pattern[: token.start()] + texts[number] + pattern[token.end() :]
        if len(spans) < most and (end == len(pattern) or _exists(path)):
            spans.insert(0, Span(number, path))
    if not spans:
        rest = f" that holds {pattern[end + 1 :]}" if texts else ""
        raise UserError(
            f"data.path is {pattern}, and {folder} holds nothing of that name{rest}; {token.group()} stands for a"
            f" number{f' of {token.group(1)} digits' if token.group(1) else ''}, such as"
            f" {level[: token.start() - start]}{'7'.zfill(int(token.group(1) or 1))}{level[token.end() - start :]}"
        )
    return spans


def newest_path(path: str) -> str:
    """Returns a path with the newest span in the place of `{SPAN}`; one without is returned as it is.

    Raises:
        UserError: as `find_spans`.
    """
    return find_spans(path)[-1].path if has_span(path) else path


def describe_spans(spans: Sequence[dict[str, Any]]) -> str | None:
    """Returns one line on what a run read of `make_span_facts`; None where `data.path` has no spans."""
    if not spans:
        return None
    numbers = ", ".join(str(span["span"]) for span in spans)
    return f"{numbers} ({spans[-1]['path']}{' and before' if len(spans) > 1 else ''})"


def make_span_facts(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Returns `span`, the number, and `path` of each, for the summary."""
    return [{"span": values.pop("number"), **values} for values in map(asdict, spans)]


def _make_expression(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


def _list(folder: str, pattern: str) -> list[str]:
    try:
        return os.listdir(folder) if "://" not in folder else gfile.listdir(folder)
    except UserError:
        raise
    except Exception as error:  # TensorFlow's file systems have errors of their own.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"data.path is {pattern}, and {folder} cannot be listed: {reason}") from error


def _exists(path: str) -> bool:
    if "://" not in path and os.path.exists(path):
        return True
    return bool(gfile.glob(path)) or gfile.exists(path)
