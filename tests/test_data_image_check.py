"""Every kind of image becomes the picture a person sees, or says why it cannot."""

import contextlib
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import image_check
from data.decode import decode_image
from data.image_check import check_header, check_image
from data.picture import UnusableImage
from tests import images

MAX_PIXELS = 50_000_000

KEPT = {
    "plain.jpg",
    "progressive.JPEG",
    "grey.jpg",
    "plain.png",
    "palette.PNG",
    "grey.png",
    "bilevel.png",
    "grey16.png",
    "rgb16.png",
    "large_profile.png",
    "wrong_comment.png",
    "large_text_at_end.png",
    "plain.gif",
    "animated.png",
    "plain.bmp",
    "alpha0.bmp",
}


def decoded(encoded):
    return decode_image(tf.constant(encoded)).numpy()


def grey(channel):
    return np.repeat(channel[..., None], 3, axis=2)


def over_white(rgb, alpha):
    opacity = alpha[..., None] / 255
    return np.rint(rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)


def transparent_palette():
    """The palette fixture, laid over white by hand."""
    palette_image = Image.fromarray(images.picture()).quantize(16)
    pixels = np.asarray(palette_image.convert("RGB")).copy()
    pixels[np.asarray(palette_image) == 3] = 255
    return pixels


def bilevel():
    return grey(np.asarray(Image.fromarray(images.picture()).convert("1")).astype(np.uint8) * 255)


# Made without the code under test, and without Pillow's conversions where numpy does.
SEEN = {
    "plain.png": images.picture,
    "alpha.png": lambda: np.hstack([np.full((24, 20, 3), 255, np.uint8), images.picture()[:, 20:]]),
    "palette_alpha.png": transparent_palette,
    "grey.png": lambda: grey(images.picture()[..., 1]),
    "grey_alpha.png": lambda: over_white(grey(images.picture()[..., 1]), np.full((24, 40), 128)),
    "bilevel.png": bilevel,
    "bilevel.bmp": bilevel,
    "grey16.png": lambda: grey((np.linspace(0, 65535, 960).astype(np.uint16) // 256).astype(np.uint8).reshape(24, 40)),
    "rgb16.png": images.picture,
    "grey16_transparent.png": lambda: np.where(
        np.arange(960).reshape(24, 40, 1) == 0, np.uint8(255), SEEN["grey16.png"]()
    ),
    "large_profile.png": images.picture,
    "wrong_comment.png": images.picture,
    "large_text_at_end.png": images.picture,
    "plain.bmp": images.picture,
    "alpha0.bmp": images.picture,
    "plain.tiff": images.picture,
    "turned.TIFF": lambda: np.rot90(images.picture(), -1),
    "grey16.tiff": lambda: SEEN["grey16.png"](),
    "animated.png": images.picture,
    "animated.WebP": images.picture,
}


@pytest.mark.parametrize("name", images.ODD_IMAGES)
def test_every_kind_of_image_is_used(name):
    original = images.ODD_IMAGES[name]()
    checked = check_image(original, MAX_PIXELS)
    assert decoded(checked.encoded).shape == (checked.height, checked.width, 3)
    assert (not checked.reencoded) == (name in KEPT)
    if checked.reencoded:
        assert checked.encoded.startswith(b"\x89PNG")
    else:
        assert checked.encoded == original
        assert check_header(original, MAX_PIXELS) == checked
    assert checked.format == {"jpg": "jpeg"}.get(suffix := name.split(".")[1].lower(), suffix)


@pytest.mark.parametrize("name", SEEN)
def test_lossless_images_are_what_a_person_sees(name):
    checked = check_image(images.ODD_IMAGES[name](), MAX_PIXELS)
    # Blending rounds in Pillow's way: one level.
    np.testing.assert_allclose(decoded(checked.encoded).astype(int), SEEN[name]().astype(int), atol=1)


@pytest.mark.parametrize(
    "name", ["plain.jpg", "progressive.JPEG", "cmyk.jpg", "plain.webp", "plain.gif", "animated.gif", "plain.avif"]
)
def test_lossy_images_are_near_what_a_person_sees(name):
    checked = check_image(images.ODD_IMAGES[name](), MAX_PIXELS)
    # Mean error of JPEG at quality 90 and of 256 colours on this picture: 3 to 6 levels; of a wrong picture: over 50.
    assert np.abs(decoded(checked.encoded).astype(int) - images.picture()).mean() < 8


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda pixels: pixels),
        (2, np.fliplr),
        (3, lambda pixels: np.rot90(pixels, 2)),
        (4, np.flipud),
        (5, lambda pixels: np.rot90(np.fliplr(pixels))),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (7, lambda pixels: np.rot90(np.fliplr(pixels), -1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied_once(orientation, turn):
    original = images.make_exif_jpeg(orientation)
    checked = check_image(original, MAX_PIXELS)
    np.testing.assert_array_equal(decoded(checked.encoded), turn(decoded(original)))
    assert checked.reencoded == (orientation != 1)
    again = check_image(checked.encoded, MAX_PIXELS)  # A viewer must not turn the stored PNG a second time.
    assert not again.reencoded


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (40, 31)])
def test_jpegs_are_kept_byte_for_byte(subsampling, size):
    """Pillow and TensorFlow decode them alike: else every photograph would become a PNG of ten times its size."""
    original = images.encode(images.picture(*size), "JPEG", subsampling=subsampling, quality=80)
    assert check_image(original, MAX_PIXELS).encoded == original


def test_broken_exif_does_not_cost_the_image():
    """Its count of tags is wrong, which `ImageOps.exif_transpose` answers with struct.error; the orientation is 6."""
    exif = (
        b"Exif\0\0MM\0*\0\0\0\x08\xdf\x03\x01)\0\x02\0\0\0\x06\0\0\x002\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
        b"\x82\x9a\0\x03\0\0\0\x02\0\x01\0\x03\0\0\0\0maker\0"
    )
    original = images.encode(images.picture(), "JPEG", exif=exif)
    checked = check_image(original, MAX_PIXELS)
    np.testing.assert_array_equal(decoded(checked.encoded), np.rot90(decoded(original), -1))


def test_tensorflow_never_unpacks_the_frames_of_an_animated_gif(monkeypatch):
    """It unpacks all of them for the first, so that a file of half a megabyte takes 600 MB."""
    monkeypatch.setattr(image_check, "decode_image", lambda encoded: pytest.fail("decoded"))
    original = images.make_animated_gif()
    expected = np.asarray(Image.open(io.BytesIO(original)).convert("RGB"))
    second_frame = original.index(b"\x21\xf9\x04", original.index(b"\x21\xf9\x04") + 1)
    for encoded in (original, original[: second_frame + 20]):
        np.testing.assert_array_equal(decoded(check_image(encoded, MAX_PIXELS).encoded), expected)


def test_a_bmp_with_a_real_alpha_is_laid_over_white():
    checked = check_image(images.make_bmp_with_alpha(128), MAX_PIXELS)
    np.testing.assert_allclose(
        decoded(checked.encoded).astype(int), over_white(images.picture(), np.full((24, 40), 128)).astype(int), atol=1
    )


@pytest.mark.parametrize("make", [images.make_png_with_large_profile, images.make_png_with_wrong_comment])
def test_a_png_with_odd_metadata_is_still_refused_where_its_pixels_are_cut_off(make):
    with pytest.raises(UnusableImage, match="truncated or corrupt png"):
        check_image(make()[:-40], MAX_PIXELS)


def test_a_png_with_odd_metadata_is_turned_by_its_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    chunks = [(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")), (b"tEXt", b"Comment\0edited")]
    checked = check_image(images.make_png_with(*chunks, wrong=b"tEXt"), MAX_PIXELS)
    np.testing.assert_array_equal(decoded(checked.encoded), np.rot90(images.picture(), -1))


REASONS = {
    "truncated.jpg": "truncated or corrupt jpeg",
    "truncated.png": "truncated or corrupt png",
    "corrupt.png": "truncated or corrupt png",
    "text.jpg": "not an image",
    "empty.jpg": "empty file",
    "drawn.jp2": "JPEG2000 is not supported",
    "measured.tif": "its pixels are floating point; convert it",
    "raw.tif": "a camera's raw file; develop it",
    "pointer.jpg": "a Git LFS pointer: the picture itself was not fetched; run git lfs pull",
    "huge.png": "100,000,000 pixels, more than 50,000,000",
}


@pytest.mark.parametrize("name", images.BAD_IMAGES)
def test_bad_images_say_why(name):
    with pytest.raises(UnusableImage) as caught:
        check_image(images.BAD_IMAGES[name](), MAX_PIXELS)
    assert REASONS[name] in caught.value.reason
    assert "\n" not in caught.value.reason


def test_a_heic_is_what_a_telephone_shows():
    seen = decoded(check_image(images.make_heic(), MAX_PIXELS).encoded).astype(int)
    assert seen.shape == (48, 64, 3)
    for part, colour in (
        (seen[:, :30], (200, 40, 40)),
        (seen[:22, 34:], (40, 200, 40)),
        (seen[26:, 34:], (40, 40, 200)),
    ):
        assert np.abs(part - colour).mean() < 12  # 4:2:0 at quality 60: 2 to 5 levels


NAMED = {
    b"\xff\x0a\0": "JPEG XL, which is not supported; convert it",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL, which is not supported; convert it",
    images.make_heic()[:200]: "HEIC that cannot be read",
    images.make_avif()[:60]: "AVIF that cannot be read",
    b"\0\0\0\x18ftypcrx ": "a camera's raw file; develop it",
    b"\0\0\0\x18ftypqt  ": "a video",
    bytes(128) + b"DICM": "DICOM, which is not supported",
    b'<?xml version="1.0"?>\n<svg xmlns=': "SVG, which is not supported",
    images.make_text(): "a web page, as a failed download leaves it",
    b"%PDF-1.7": "a PDF",
    b"PK\x03\x04": "an archive; unpack it",
}


@pytest.mark.parametrize("content", NAMED, ids=NAMED.values())
def test_what_is_no_image_that_can_be_read_is_named(content):
    with pytest.raises(UnusableImage) as caught:
        check_image(content, MAX_PIXELS)
    assert caught.value.reason.startswith(f"not an image that can be read: {NAMED[content]}")


def test_size_is_refused_before_pixels_are_decoded():
    without_pixels = images.make_huge_png(400)[:100]
    with pytest.raises(UnusableImage, match="160,000 pixels, more than 100,000"):
        check_image(without_pixels, max_pixels=100_000)


def test_pillows_own_limit_is_an_answer_too():
    with pytest.raises(UnusableImage, match="more pixels than 50,000,000"):
        check_image(images.make_huge_png(20_000), MAX_PIXELS)


def test_any_cut_and_any_flipped_byte_is_survived():
    random = np.random.default_rng(0)
    survived = 0
    for maker in (images.make_jpeg, images.make_png, images.make_gif, images.make_bmp, images.make_webp):
        original = maker()
        for _ in range(40):
            broken = bytearray(original)
            broken[random.integers(len(broken))] = random.integers(256)
            broken = broken[: random.integers(1, len(broken) + 1)] if random.random() < 0.5 else broken
            with contextlib.suppress(UnusableImage):
                checked = check_image(bytes(broken), MAX_PIXELS)
                assert decoded(checked.encoded).shape == (checked.height, checked.width, 3)
                survived += 1
    assert 20 < survived < 180  # Both branches were taken.


def test_a_file_of_another_format_than_its_suffix_says_is_used():
    # check_image never sees the name: a PNG called .jpg is common, and decodes.
    assert check_image(images.make_png(), MAX_PIXELS).format == "png"


def test_webp_pixels_equal_pillows():
    checked = check_image(images.make_webp(), MAX_PIXELS)
    expected = np.asarray(Image.open(io.BytesIO(images.make_webp())).convert("RGB"))
    np.testing.assert_array_equal(decoded(checked.encoded), expected)
