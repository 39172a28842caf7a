"""Makers of images for tests: learnable class folders, and one maker for each kind of odd or unusable image.

Everything is made from a seed, nothing is stored. `make_*` functions return the encoded bytes of one file.
"""

import base64
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_ORIENTATION_TAG = 0x0112


def make_pixels(class_index: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Returns a picture whose class a small model learns: a bright bar on noise, its angle and colour set by the class.

    Args:
        class_index: 0 or more; the angle is 45 degrees times this, the strongest channel this modulo 3.
        size: height and width, pixels.
        random: where position, brightness and noise come from.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    angle = class_index * np.pi / 4
    rows, columns = np.mgrid[0:size, 0:size] - (size - 1) / 2
    distance = np.abs(rows * np.cos(angle) - columns * np.sin(angle) + random.uniform(-size / 8, size / 8))
    pixels = random.uniform(0, 60, (size, size, 3))
    pixels[distance < size / 8] += 60
    pixels[distance < size / 8, class_index % 3] += random.uniform(80, 120)
    return pixels.clip(0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, format: str, **options: object) -> bytes:
    """Returns the pixels (anything that `PIL.Image.fromarray` takes) as a file of the format, such as `JPEG`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def make_image_tree(
    root: Path | str, classes: Sequence[str] | int = 3, per_class: int = 12, size: int = 32, seed: int = 0
) -> Path:
    """Writes `root/<class>/NNNN.jpg|png`, JPEG and PNG in turn, every picture different.

    For declared splits call it once a split, with another seed each: `make_image_tree(root / "train", ...)`.

    Args:
        root: a folder, made if missing.
        classes: class names, or how many classes `class_0`, `class_1`, ...
        per_class: images of each class.
        size: height and width, pixels.
        seed: of all pixels.

    Returns:
        The root.
    """
    names = [f"class_{i}" for i in range(classes)] if isinstance(classes, int) else list(classes)
    random = np.random.default_rng(seed)
    for class_index, name in enumerate(names):
        folder = Path(root) / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = make_pixels(class_index, size, random)
            if i % 2:
                (folder / f"{i:04}.png").write_bytes(encode(pixels, "PNG"))
            else:
                (folder / f"{i:04}.jpg").write_bytes(encode(pixels, "JPEG", quality=95))
    return Path(root)


def picture(height: int = 24, width: int = 40, seed: int = 7) -> np.ndarray:
    """Returns uint8 [height, width, 3]: smooth, coloured and without any symmetry, so that a turn or a flip shows."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


# What the pipeline can use, each with its trap.


def make_jpeg() -> bytes:
    """A plain JPEG with subsampled colour."""
    return encode(picture(), "JPEG", quality=90)


def make_progressive_jpeg() -> bytes:
    """A progressive JPEG."""
    return encode(picture(), "JPEG", quality=90, progressive=True)


def make_grey_jpeg() -> bytes:
    """A JPEG of one channel."""
    return encode(picture()[..., 0], "JPEG", quality=90)


def make_cmyk_jpeg() -> bytes:
    """A JPEG of four channels, as printers use, with as much black as the picture has."""
    inks = 255 - picture().astype(np.float32)
    black = inks.min(axis=2, keepdims=True)
    inks = 255 * (inks - black) / np.maximum(255 - black, 1)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([inks, black]).round().astype(np.uint8), "CMYK").save(buffer, "JPEG", quality=98)
    return buffer.getvalue()


def make_exif_jpeg(orientation: int = 6) -> bytes:
    """A JPEG whose EXIF orientation (1..8) says how to turn it; 6 is a phone held upright."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    return encode(picture(), "JPEG", quality=95, exif=exif)


def make_png() -> bytes:
    """A plain PNG."""
    return encode(picture(), "PNG")


def make_rgba_png() -> bytes:
    """A PNG whose left half is transparent over red, so that dropping alpha shows."""
    alpha = np.full(picture().shape[:2], 255, np.uint8)
    alpha[:, :20] = 0
    pixels = np.dstack([picture(), alpha])
    pixels[:, :20, :3] = (255, 0, 0)
    return encode(pixels, "PNG")


def make_palette_png() -> bytes:
    """A PNG of 16 palette colours."""
    buffer = io.BytesIO()
    Image.fromarray(picture()).quantize(16).save(buffer, "PNG")
    return buffer.getvalue()


def make_transparent_palette_png() -> bytes:
    """A PNG of 16 palette colours, one of which is transparent."""
    buffer = io.BytesIO()
    Image.fromarray(picture()).quantize(16).save(buffer, "PNG", transparency=3)
    return buffer.getvalue()


def make_grey_png() -> bytes:
    """A PNG of one channel."""
    return encode(picture()[..., 1], "PNG")


def make_grey_alpha_png() -> bytes:
    """A PNG of grey and half-transparent alpha."""
    return encode(np.dstack([picture()[..., 1], np.full(picture().shape[:2], 128, np.uint8)]), "PNG")


def make_bilevel_png() -> bytes:
    """A PNG of one bit a pixel."""
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert("1").save(buffer, "PNG")
    return buffer.getvalue()


def make_grey16_png() -> bytes:
    """A PNG of one 16-bit channel that runs from 0 to 65,535: clipping to 255 would make it white."""
    return encode(np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40), "PNG")


def make_rgb16_png() -> bytes:
    """A PNG of three 16-bit channels, written by hand since Pillow cannot."""
    pixels = (picture().astype(np.uint16) << 8 | 0x7F).astype(">u2")
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _png_chunk(kind, body) for kind, body in [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    )


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def make_png_with(*chunks: tuple[bytes, bytes], before: bytes = b"IDAT", wrong: bytes = b"") -> bytes:
    """A plain PNG with further chunks, (kind, content) each, before one of a kind; a kind may have wrong checksums."""
    encoded = make_png()
    start = encoded.index(before) - 4
    further = [
        _png_chunk(kind, body)[:-1] + (b"?" if kind == wrong else _png_chunk(kind, body)[-1:]) for kind, body in chunks
    ]
    return encoded[:start] + b"".join(further) + encoded[start:]


def make_png_with_large_profile() -> bytes:
    """A PNG with a colour profile of 2 MB, in 2 kB: Pillow unpacks no more than 1 MiB."""
    return make_png_with((b"iCCP", b"large\0\0" + zlib.compress(bytes(2_000_000))))


def make_png_with_wrong_comment() -> bytes:
    """A PNG with a comment whose checksum is wrong, which costs no more than the comment."""
    return make_png_with((b"tEXt", b"Comment\0edited"), wrong=b"tEXt")


def make_png_with_large_text_at_end() -> bytes:
    """A PNG with a text of 2 MB, in 2 kB, after its pixels."""
    return make_png_with((b"zTXt", b"history\0\0" + zlib.compress(bytes(2_000_000))), before=b"IEND")


def make_grey16_png_with_transparency() -> bytes:
    """A PNG of one 16-bit channel of which the value 0 is called transparent."""
    encoded = make_grey16_png()
    start = encoded.index(b"IDAT") - 4
    return encoded[:start] + _png_chunk(b"tRNS", b"\0\0") + encoded[start:]


def make_gif() -> bytes:
    """A GIF of one frame."""
    return encode(picture(), "GIF")


def make_animated_gif() -> bytes:
    """A GIF of three frames, the first of which is `picture()` in 256 colours."""
    frames = [Image.fromarray(picture(seed=seed)).quantize(256) for seed in (7, 8, 9)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def make_animated_png() -> bytes:
    """A PNG of two frames, the first of which is `picture()`."""
    first, second = (Image.fromarray(picture(seed=seed)) for seed in (7, 8))
    buffer = io.BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=[second], duration=100)
    return buffer.getvalue()


def make_bmp() -> bytes:
    """A BMP of 24 bits a pixel."""
    return encode(picture(), "BMP")


def make_bilevel_bmp() -> bytes:
    """A BMP of one bit a pixel, which TensorFlow cannot decode."""
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert("1").save(buffer, "BMP")
    return buffer.getvalue()


def make_bmp_with_alpha(alpha: int = 0) -> bytes:
    """A BMP of 32 bits a pixel whose fourth byte is called transparency; many programs leave it 0."""
    rows = np.dstack([picture()[..., ::-1], np.full(picture().shape[:2], alpha, np.uint8)])[::-1]
    height, width, _ = rows.shape
    size = (56, width, height, 1, 32, 3, rows.nbytes, 2835, 2835, 0, 0)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", *size) + struct.pack("<4I", *masks)
    return (
        b"BM" + struct.pack("<IHHI", 14 + len(header) + rows.nbytes, 0, 0, 14 + len(header)) + header + rows.tobytes()
    )


def make_tiff() -> bytes:
    """A TIFF, as scanners write."""
    return encode(picture(), "TIFF")


def make_turned_tiff() -> bytes:
    """A TIFF whose orientation is that of a telephone held upright."""
    return encode(picture(), "TIFF", tiffinfo={_ORIENTATION_TAG: 6})


def make_grey16_tiff() -> bytes:
    """A TIFF of one 16-bit channel from 0 to 65,535, as microscopes write."""
    return encode(np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40), "TIFF")


def make_avif() -> bytes:
    """An AVIF."""
    return encode(picture(), "AVIF", quality=90)


def make_heic() -> bytes:
    """A HEIC of 64 x 48 pixels: the left half red, of the right one green above blue. Nothing here can write one."""
    return base64.b64decode(_HEIC)


_HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA
ACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAIoAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt
AAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA
AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5j
bHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBp
eGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAJJtZGF0AAAAhigBrwngOSMkv//40n//9/QeQ/YKJ4W+nHvZ7/4x
7/9WDfsJYBDtWv/CJf81FH39lEZ3m3fo72jQnrdinVzjP6HCzNZ13oWJILUp8V2iLzYsfrKyDuVsBqCFJgejyYBfMGa/TzVzOxn2
OiVVS777kD8o77d4iO8zCD0gNf1aLwo6Zmn7zsZ2
"""


def make_webp() -> bytes:
    """A lossy WebP, which TensorFlow cannot decode."""
    return encode(picture(), "WEBP", quality=90)


def make_animated_webp() -> bytes:
    """A WebP of two frames, lossless."""
    buffer = io.BytesIO()
    first, second = (Image.fromarray(picture(seed=seed)) for seed in (7, 8))
    first.save(buffer, "WEBP", save_all=True, append_images=[second], duration=100, lossless=True)
    return buffer.getvalue()


ODD_IMAGES: dict[str, Callable[[], bytes]] = {
    "plain.jpg": make_jpeg,
    "progressive.JPEG": make_progressive_jpeg,
    "grey.jpg": make_grey_jpeg,
    "cmyk.jpg": make_cmyk_jpeg,
    "turned.JPG": make_exif_jpeg,
    "plain.png": make_png,
    "alpha.png": make_rgba_png,
    "palette.PNG": make_palette_png,
    "palette_alpha.png": make_transparent_palette_png,
    "grey.png": make_grey_png,
    "grey_alpha.png": make_grey_alpha_png,
    "bilevel.png": make_bilevel_png,
    "grey16.png": make_grey16_png,
    "rgb16.png": make_rgb16_png,
    "grey16_transparent.png": make_grey16_png_with_transparency,
    "large_profile.png": make_png_with_large_profile,
    "wrong_comment.png": make_png_with_wrong_comment,
    "large_text_at_end.png": make_png_with_large_text_at_end,
    "plain.gif": make_gif,
    "animated.gif": make_animated_gif,
    "animated.png": make_animated_png,
    "plain.bmp": make_bmp,
    "bilevel.bmp": make_bilevel_bmp,
    "alpha0.bmp": make_bmp_with_alpha,
    "plain.tiff": make_tiff,
    "turned.TIFF": make_turned_tiff,
    "grey16.tiff": make_grey16_tiff,
    "plain.avif": make_avif,
    "plain.heic": make_heic,
    "plain.webp": make_webp,
    "animated.WebP": make_animated_webp,
}
"""File name -> maker, of every kind that must become an example."""


# What the pipeline cannot use.


def make_truncated_jpeg() -> bytes:
    """A JPEG cut in the middle of its pixels."""
    return make_jpeg()[: len(make_jpeg()) * 2 // 3]


def make_truncated_png() -> bytes:
    """A PNG cut in the middle of its pixels."""
    return make_png()[: len(make_png()) // 2]


def make_text() -> bytes:
    """A web page, as a failed download leaves it under the name of a JPEG."""
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def make_empty() -> bytes:
    """Nothing."""
    return b""


def make_jpeg2000() -> bytes:
    """A JPEG 2000: an image, but of a format that the pipeline does not take."""
    return encode(picture(), "JPEG2000")


def make_float_tiff() -> bytes:
    """A TIFF of floating point numbers, of which nobody knows which one is white."""
    return encode(picture()[..., 0].astype(np.float32) / 255, "TIFF")


def make_raw_file() -> bytes:
    """A TIFF whose first picture is called a smaller one, as cameras' raw files begin with a thumbnail."""
    return encode(picture(), "TIFF", tiffinfo={0x00FE: 1})


def make_lfs_pointer() -> bytes:
    """What a clone holds of a file whose content Git LFS did not fetch."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def make_corrupt_png() -> bytes:
    """A PNG with a flipped byte in its compressed pixels, so that its checksum is wrong."""
    encoded = bytearray(make_png())
    encoded[len(encoded) // 2] ^= 0xFF
    return bytes(encoded)


def make_huge_png(side: int = 10_000) -> bytes:
    """A PNG of side x side pixels in a few kilobytes: by default 100 megapixels, over the default limit."""
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_IMAGES: dict[str, Callable[[], bytes]] = {
    "truncated.jpg": make_truncated_jpeg,
    "truncated.png": make_truncated_png,
    "text.jpg": make_text,
    "empty.jpg": make_empty,
    "drawn.jp2": make_jpeg2000,
    "measured.tif": make_float_tiff,
    "raw.tif": make_raw_file,
    "pointer.jpg": make_lfs_pointer,
    "corrupt.png": make_corrupt_png,
    "huge.png": make_huge_png,
}
"""File name -> maker, of every kind that must be quarantined."""
