"""The raw feature contract: what every `tf.train.Example` that leaves ImageExampleGen holds."""

import unicodedata

IMAGE_KEY = "image"
"""bytes [1]: a JPEG, PNG, GIF or BMP that `data.decode.decode_image` turns into the picture a person sees."""

LABEL_KEY = "label"
"""bytes [1]: the class name, UTF-8, in `normal_form`."""

NAME_KEY = "file_name"
"""bytes [1]: where the image came from, relative to its source, UTF-8."""

HEIGHT_KEY = "height"
"""int64 [1]: pixels, of the picture as it is decoded."""

WIDTH_KEY = "width"
"""int64 [1]: pixels, of the picture as it is decoded."""

FORMAT_KEY = "format"
"""bytes [1]: the format of the original file, see `data.picture.Picture`."""

CONTENT_HASH_KEY = "content_sha256"
"""bytes [1]: hexadecimal SHA-256 of the original file's bytes."""

WEIGHT_KEY = "weight"
"""float [1]: what the image weighs in training, above 0; in all examples of a data set in which one is not 1."""

GROUP_KEY = "group"
"""bytes [1]: the same in all images that stay in one split, see `data.groups`; in all examples of a data set in which
several images belong together by more than their bytes."""

SPLITS = ("train", "eval", "test")
"""`train` fits weights, `eval` chooses epochs and stops early, `test` gates the push and chooses nothing."""


def normal_form(class_name: str) -> str:
    """Returns the one form of a class name: macOS takes accents apart (NFD), most else keeps them composed (NFC)."""
    return unicodedata.normalize("NFC", class_name)
