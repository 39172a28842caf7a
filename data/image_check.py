"""Decides whether a file is an image that the pipeline can use, and stores what a person sees in it."""

import io
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from data.decode import decode_image

_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "WEBP": "webp"}
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
# Fast: a 12-megapixel photograph takes 1.2 s instead of zlib's usual 2.6 s, and comes out 3 % larger.
_PNG_COMPRESS_LEVEL = 1


class UnusableImage(ValueError):
    """A file that cannot become an example.

    Attributes:
        reason: why, in a few words, for the quarantine list.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class CheckedImage:
    """An image that `decode_image` turns into the picture a person sees.

    Attributes:
        encoded: the original file's bytes, or a PNG of the picture.
        height: pixels, of the picture.
        width: pixels, of the picture.
        format: of the original file: `jpeg`, `png`, `gif`, `bmp` or `webp`.
        reencoded: whether `encoded` is a PNG in place of the original bytes.
    """

    encoded: bytes
    height: int
    width: int
    format: str
    reencoded: bool


def check_image(encoded: bytes, max_pixels: int) -> CheckedImage:
    """Checks one file: header first, then every pixel.

    What a person sees: EXIF orientation applied, transparency laid over white, palette, grey, CMYK and 16 bits
    converted (16 bits scaled, not clipped), the first frame of an animation. Colour profiles are not applied.

    Args:
        encoded: the file's bytes.
        max_pixels: the most pixels (height x width) that are decoded.

    Returns:
        The original bytes where `decode_image` gives exactly this picture, else a lossless PNG of it; the PNG for an
        animated GIF, too.

    Raises:
        UnusableImage: empty, no image, a format or a size that is not taken, truncated or corrupt.
    """
    picture, file_format, reencoded = inspect_image(encoded, max_pixels)
    stored = _as_png(picture) if reencoded else encoded
    return CheckedImage(stored, picture.height, picture.width, file_format, reencoded)


def inspect_image(encoded: bytes, max_pixels: int) -> tuple[Image.Image, str, bool]:
    """Returns the picture, its file's format, and whether a PNG is stored in its place; errors as `check_image`.

    No PNG is made where one is needed, which takes longer than the check.
    """
    image = open_image(encoded, max_pixels)
    file_format = _format(image)
    # Pillow's decoders raise many types (OSError, SyntaxError, struct.error, zlib.error, ...) on corrupt files, and one
    # such file must never end a run.
    try:
        image.load()
        picture = _picture(image)
    except Exception as error:
        raise UnusableImage(f"truncated or corrupt {file_format}: {_one_line(error)}") from error
    return picture, file_format, _is_animated_gif(image) or not _decodes_to(encoded, picture)


def check_header(encoded: bytes, max_pixels: int) -> CheckedImage:
    """As `check_image`, for bytes that have already passed it with `reencoded` False: only the header is read."""
    image = open_image(encoded, max_pixels)
    return CheckedImage(encoded, image.height, image.width, _format(image), reencoded=False)


def open_image(encoded: bytes, max_pixels: int) -> Image.Image:
    """Reads the header and no pixel.

    Raises:
        UnusableImage: as `check_image`, from what the header shows.
    """
    if not encoded:
        raise UnusableImage("empty file")
    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:
        raise UnusableImage("not an image") from error
    # Pillow warns from 89 and refuses from 179 megapixels on; where warnings are errors, both arrive here.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnusableImage(f"more pixels than {max_pixels:,} (data.max_pixels): {_one_line(error)}") from error
    except Exception as error:  # As in check_image.
        raise UnusableImage(f"corrupt header: {_one_line(error)}") from error
    if image.format not in _FORMATS:
        raise UnusableImage(f"{image.format} is not supported; convert it to JPEG, PNG, GIF, BMP or WebP")
    if image.width * image.height > max_pixels:
        raise UnusableImage(
            f"{image.width} x {image.height} = {image.width * image.height:,} pixels,"
            f" more than {max_pixels:,} (data.max_pixels)"
        )
    if not image.width * image.height:
        raise UnusableImage(f"{image.width} x {image.height} pixels: empty")
    return image


def _format(image: Image.Image) -> str:
    return _FORMATS[str(image.format)]


def _picture(image: Image.Image) -> Image.Image:
    """Returns the RGB image that a person sees."""
    # Not ImageOps.exif_transpose: it copies every image, and fails on broken tags that do not matter here.
    turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    if image.mode.startswith("I"):
        # One channel of 16 bits. Its high byte, as libpng (so TensorFlow) does and as Pillow does for 16-bit colour;
        # Pillow's own conversion would clip.
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if turn is not None:
        image = image.transpose(turn)
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
    except Exception:  # As in inspect_image: the second frame is corrupt.
        return True


def _decodes_to(encoded: bytes, picture: Image.Image) -> bool:
    """Says whether `decode_image` gives exactly this picture."""
    try:
        decoded = decode_image(tf.constant(encoded)).numpy()
    except tf.errors.OpError:
        return False
    return np.array_equal(decoded, np.asarray(picture))


def _as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=_PNG_COMPRESS_LEVEL)
    return buffer.getvalue()


def _one_line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
