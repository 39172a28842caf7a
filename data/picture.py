"""The picture in a file's bytes, as a person sees it: whoever trains on, serves, shows or compares images asks here.

What the model decodes, `data.decode.decode_image`, is the same: `data.image_check` stores no bytes of which it is not.
"""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pi_heif
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from data.bit_depth import WHOLE
from data.file_kinds import name_kind

pi_heif.register_heif_opener()

MOST_PIXELS = 89_000_000
"""Beyond it Pillow itself warns, and refuses twice as many."""

_FORMATS = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "GIF": "gif",
    "BMP": "bmp",
    "WEBP": "webp",
    "TIFF": "tiff",
    "AVIF": "avif",
    "HEIF": "heic",
}
_ORIENTATION_TAG = 0x0112
# What EXIF asks for, by its value; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SUBFILE_TYPE_TAG, _DNG_VERSION_TAG = 0x00FE, 0xC612

_T = TypeVar("_T")


class UnusableImage(ValueError):
    """A file that cannot become an example.

    Attributes:
        reason: why, in a few words, for the quarantine list.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Picture:
    """What a person sees in a file: EXIF orientation applied, transparency laid over white, the first frame.

    Attributes:
        format: of the file, `jpeg`, `png`, `gif`, `bmp`, `webp`, `tiff`, `avif` or `heic`.
        animated: whether it is a GIF of several frames.
        pixels: the RGB image; of 16 bits a channel, uint16 [height, width, 4], RGBA.
        turn: what EXIF asks for, of those of 16 bits.
    """

    format: str
    animated: bool
    pixels: Image.Image | np.ndarray
    turn: Image.Transpose | None = None

    @property
    def peak(self) -> int | None:
        """The largest value of a colour channel, 0..65535; None for an image of 8 bits a channel."""
        return int(self.pixels[..., :3].max()) if isinstance(self.pixels, np.ndarray) else None

    def at(self, bit_depth: int) -> Image.Image:
        """Returns the RGB image, of 8 bits: where the file has 16 a channel, the highest of the lower `bit_depth`.

        16 is what libpng, and so TensorFlow, does by itself; what exceeds a smaller depth is white.
        """
        if isinstance(self.pixels, Image.Image):
            return self.pixels
        alpha = self.pixels[..., 3] >> 8
        channels = [np.minimum(self.pixels[..., :3] >> (bit_depth - 8), 255), *([alpha] if alpha.min() < 255 else [])]
        shown = Image.fromarray(np.dstack(channels).astype(np.uint8))
        return _opaque(shown if self.turn is None else shown.transpose(self.turn))


def picture_of(stored: bytes, least_side: int = 0) -> Image.Image:
    """Returns the RGB picture of an example's image, as `decode_image` gives it.

    Args:
        stored: the example's encoded image.
        least_side: pixels; where it is given, a large JPEG is decoded at a half, a quarter or an eighth, no smaller.

    Raises:
        UnusableImage: these bytes passed no check.
    """
    return read_picture(stored, MOST_PIXELS, least_side).at(WHOLE)


def read_picture(encoded: bytes, max_pixels: int, least_side: int = 0) -> Picture:
    """Reads a file: header first, then every pixel. Colour profiles are not applied.

    Raises:
        UnusableImage: empty, no image, a format or a size that is not taken, truncated or corrupt.
    """
    return _in_spite_of_metadata(lambda given: _read(given, max_pixels, least_side), encoded)


def read_header(encoded: bytes, max_pixels: int) -> tuple[str, int, int]:
    """Returns format, height and width of a file whose picture need not be turned; errors as `read_picture`."""
    image = _in_spite_of_metadata(lambda given: _open(given, max_pixels), encoded)
    return _FORMATS[str(image.format)], image.height, image.width


def _in_spite_of_metadata(read: Callable[[bytes], _T], encoded: bytes) -> _T:
    """Reads a PNG again, without its metadata, where they may be what keeps Pillow from it.

    It refuses a profile or a text of more than 1 MiB, and a wrong checksum of a comment; viewers and TensorFlow do not.
    """
    try:
        return read(encoded)
    except UnusableImage:
        bare = _without_metadata(encoded)
        if len(bare) == len(encoded):
            raise
        return read(bare)


def _without_metadata(encoded: bytes) -> bytes:
    """Drops what a PNG's picture can do without: chunks with a small first letter, but for transparency and EXIF."""
    if not encoded.startswith(_PNG_SIGNATURE):
        return encoded
    kept, start = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while start < len(encoded):
        chunk = encoded[start : start + 12 + int.from_bytes(encoded[start : start + 4], "big")]
        is_sound = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if chunk[4:5].isupper() or (is_sound and chunk[4:8] in (b"tRNS", b"eXIf")):
            kept.append(chunk)
        start += len(chunk)
    return b"".join(kept)


def _open(encoded: bytes, max_pixels: int) -> Image.Image:
    """Reads the header and no pixel."""
    if not encoded:
        raise UnusableImage("empty file")
    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:
        kind = name_kind(encoded)
        raise UnusableImage(f"not an image that can be read: {kind}" if kind else "not an image") from error
    # Pillow warns from 89 and refuses from 179 megapixels on; where warnings are errors, both arrive here.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnusableImage(f"more pixels than {max_pixels:,} (data.max_pixels): {_one_line(error)}") from error
    except Exception as error:  # As in _read.
        raise UnusableImage(f"corrupt header: {_one_line(error)}") from error
    if image.format not in _FORMATS:
        raise UnusableImage(
            f"{image.format} is not supported; convert it to JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF or HEIC"
        )
    if image.width * image.height > max_pixels:
        raise UnusableImage(
            f"{image.width} x {image.height} = {image.width * image.height:,} pixels,"
            f" more than {max_pixels:,} (data.max_pixels)"
        )
    if not image.width * image.height:
        raise UnusableImage(f"{image.width} x {image.height} pixels: empty")
    # Cameras' raw files call themselves TIFF; what lies first in them is a thumbnail.
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if tags and (_DNG_VERSION_TAG in tags or int(tags.get(_SUBFILE_TYPE_TAG, 0)) & 1 or encoded[8:10] == b"CR"):
        raise UnusableImage("a camera's raw file; develop it to JPEG, PNG or TIFF")
    return image


def _read(encoded: bytes, max_pixels: int, least_side: int) -> Picture:
    image = _open(encoded, max_pixels)
    file_format = _FORMATS[str(image.format)]
    # Pillow's decoders raise many types (OSError, SyntaxError, struct.error, zlib.error, ...) on corrupt files, and one
    # such file must never end a run.
    try:
        if least_side:
            image.draft("RGB", (least_side, least_side))
        image.load()
        # Not ImageOps.exif_transpose: it copies every image, and fails on broken tags that do not matter here.
        turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
        if (deep := _deep_pixels(encoded, image)) is not None:
            return Picture(file_format, False, deep, turn)
        # Of a BMP without any, nobody filled the fourth byte: laid over white, nothing would be left.
        unfilled = image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)
        shown = image.convert("RGB") if unfilled else image
        picture = _opaque(shown if turn is None else shown.transpose(turn))
        return Picture(file_format, _is_animated_gif(image), picture)
    except UnusableImage:
        raise
    except Exception as error:
        raise UnusableImage(f"truncated or corrupt {file_format}: {_one_line(error)}") from error


def _deep_pixels(encoded: bytes, image: Image.Image) -> np.ndarray | None:
    """Returns uint16 [height, width, 4], RGBA, of an image of 16 bits a channel, as far as it can be had; else None."""
    if image.format == "PNG" and encoded[24] == 16:  # the header's bit depth; of colour, Pillow keeps 8 bits only
        return tf.io.decode_png(encoded, channels=4, dtype=tf.uint16).numpy()
    if not image.mode.startswith(("I", "F")):
        return None
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        kind = "floating point" if image.mode == "F" else "integers beyond 0..65535"
        raise UnusableImage(f"its pixels are {kind}; convert it to 8 or 16 bits a channel")
    grey = values.astype(np.uint16)
    return np.dstack([grey, grey, grey, np.full_like(grey, 65535)])


def _opaque(image: Image.Image) -> Image.Image:
    """Returns an RGB image, laid over white where it is transparent."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_animated_gif(image: Image.Image) -> bool:
    """Says whether a GIF, already loaded, has several frames.

    `decode_image` unpacks them all for the first one, 600 MB for 0.6 MB of 150 frames with 4 megapixels each.
    """
    try:
        return image.format == "GIF" and getattr(image, "is_animated", False)
    except Exception:  # As in _read: the second frame is corrupt.
        return True


def _one_line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
