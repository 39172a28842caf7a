"""How images are divided into shards, and how a shard is scored: here and on Dataflow the same."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.exported_model.loaded import LoadedModel
from data.image_statistics import SCALES, measure_picture
from data.picture import UnusableImage
from data.sources.source import SourceImage
from data.threads import map_in_threads, thread_count
from pipeline.scoring.images import FoundImages, ReadFn, is_one_image


@dataclass(frozen=True)
class Piece:
    """Images of one reference.

    Attributes:
        reference: of `FoundImages`.
        start: the first, from 0.
        stop: the one after the last.
    """

    reference: Any
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """What is scored and written at once.

    Attributes:
        number: from 0.
        pieces: its images, in order.
    """

    number: int
    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        """Returns the number of its images."""
        return sum(piece.stop - piece.start for piece in self.pieces)


def count_images(found: FoundImages) -> list[int]:
    """Returns how many images each reference holds; files that hold several are read for it."""
    return [
        1 if is_one_image(reference) else sum(1 for _ in found.read_fn(reference)) for reference in found.references
    ]


def divide(references: Sequence[Any], counts: Sequence[int] | None, size: int) -> Iterator[Shard]:
    """Yields shards of `size` images, the last of fewer.

    Args:
        references: in order.
        counts: of their images; None where each is one.
        size: images of a shard.
    """
    number, room = 0, size
    pieces: list[Piece] = []
    for reference, count in zip(references, counts or itertools.repeat(1, len(references)), strict=True):
        start = 0
        while start < count:
            taken = min(room, count - start)
            pieces.append(Piece(reference, start, start + taken))
            start, room = start + taken, room - taken
            if not room:
                yield Shard(number, tuple(pieces))
                number, pieces, room = number + 1, [], size
    if pieces:
        yield Shard(number, tuple(pieces))


class ImageReader:
    """Reads pieces; one that goes on where the last one stopped reads nothing twice."""

    def __init__(self, read_fn: ReadFn) -> None:
        """Keeps the function, of `FoundImages`."""
        self._read_fn = read_fn
        self._open: tuple[Any, int, Iterator[SourceImage]] | None = None

    def read(self, shard: Shard) -> Iterator[Any]:
        """Yields a shard's images: a `SourceImage`, or a reference that `load` reads, in any thread."""
        for piece in shard.pieces:
            if is_one_image(piece.reference):
                yield piece.reference
            else:
                yield from self._read_part(piece)

    def load(self, item: Any) -> SourceImage:
        """Returns the image of what `read` yields."""
        if isinstance(item, SourceImage):
            return item
        (image,) = self._read_fn(item)
        return image

    def _read_part(self, piece: Piece) -> Iterator[SourceImage]:
        reference, place, images = self._open or (None, -1, iter(()))
        if reference is not piece.reference or place != piece.start:
            images = itertools.islice(iter(self._read_fn(piece.reference)), piece.start, None)
        self._open = None
        found = 0
        for image in itertools.islice(images, piece.stop - piece.start):
            found += 1
            yield image
        if found < piece.stop - piece.start:
            raise RuntimeError(f"{piece.reference} holds fewer images than before; run again when nothing writes there")
        self._open = piece.reference, piece.stop, images


class Scorer:
    """A model that answers image after image: batch by batch, while threads read and decode what comes next."""

    def __init__(self, model: LoadedModel, version: str, batch_size: int, max_pixels: int, top_k: int | None) -> None:
        """Keeps what is asked for.

        Args:
            model: that answers.
            version: of it, for the rows.
            batch_size: images that it is asked about at once.
            max_pixels: of an image, at most.
            top_k: classes of an answer; None for all that the model names.
        """
        self._model, self._version, self._batch_size = model, version, batch_size
        self._max_pixels, self._top_k = max_pixels, top_k

    def score(
        self, items: Iterable[Any], reader: ImageReader, tell: Callable[[int], None] = lambda done: None
    ) -> list[dict[str, Any]]:
        """Returns a row for each image of a shard, see `pipeline.scoring.rows`; one that cannot be used says why.

        Args:
            items: what the reader yields.
            reader: that loads them.
            tell: is called after each batch with the number of rows so far.
        """
        rows: list[dict[str, Any]] = []
        batch: list[tuple[dict[str, Any], np.ndarray | bytes]] = []
        # A batch is ready when the model comes back from the one before it, and the threads have still something to do.
        ahead = self._batch_size + 4 * thread_count()
        for row, prepared in map_in_threads(lambda item: self._look(reader.load(item)), items, ahead):
            rows.append(row)
            if prepared is not None:
                batch.append((row, prepared))
            if len(batch) == self._batch_size:
                self._answer(batch)
                batch = []
                tell(len(rows))
        if batch:
            self._answer(batch)
        return rows

    def _look(self, image: SourceImage) -> tuple[dict[str, Any], np.ndarray | bytes | None]:
        row: dict[str, Any] = {"name": image.name, "version": self._version, "given_label": image.label or None}
        if image.problem:
            return {**row, "problem": image.problem}, None
        row["sha256"] = hashlib.sha256(image.encoded).hexdigest()
        try:
            picture, prepared = self._model.look_at(image.encoded, self._max_pixels)
        except UnusableImage as error:
            return {**row, "problem": error.reason}, None
        figures = zip(SCALES, measure_picture(picture), strict=True)
        return {**row, **{f"image_{name}": value for name, value in figures}}, prepared

    def _answer(self, batch: Sequence[tuple[dict[str, Any], np.ndarray | bytes]]) -> None:
        for (row, _), said in zip(batch, self._model.answer([prepared for _, prepared in batch]), strict=True):
            row.update(said.to_json(self._top_k))
