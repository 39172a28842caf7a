"""Images that differ in little but their bytes: resaved, resized, cropped a little, a frame later.

Each image becomes 10 x 10 colours with mean 0 and length 1; two images are near duplicates if the cosine between them
is at least `LEAST_COSINE`.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data.picture import UnusableImage, picture_of

LEAST_COSINE = 0.985
SIDE = 10
VALUES = SIDE * SIDE * 3
_BLOCK = 1024


def describe_image(stored: bytes) -> np.ndarray:
    """Returns what `describe_picture` does, of an example's encoded image; 0 where it cannot be read."""
    try:
        return describe_picture(picture_of(stored, least_side=4 * SIDE))  # a JPEG at an eighth, which is enough
    except UnusableImage:
        return np.zeros(VALUES, np.float32)


def describe_picture(picture: Image.Image) -> np.ndarray:
    """Returns float32 [300], of length 1; 0 for an image of one colour, which is like no other."""
    vector = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
    vector = vector - vector.mean()
    length = float(np.linalg.norm(vector))
    # Below half a level of contrast there is nothing to compare.
    return vector / length if length > 0.5 * np.sqrt(vector.size) else np.zeros_like(vector)


def join_alike(names: Sequence[str], vectors: np.ndarray) -> dict[str, str]:
    """Returns name -> the first of those that it hangs together with, near duplicate by near duplicate.

    No pair is kept, of which there may be billions: beside the vectors, blocks of 1,024 x 8,192 cosines.

    Args:
        names: each another.
        vectors: float32 [names, 300], of `describe_picture`.
    """
    count = len(names)
    component = np.arange(count)
    for a in range(0, count, _BLOCK):
        for b in range(a, count, 8 * _BLOCK):
            rows, columns = slice(a, a + _BLOCK), slice(b, b + 8 * _BLOCK)
            close = vectors[rows] @ vectors[columns].T >= LEAST_COSINE
            close &= component[rows, None] != component[None, columns]
            i, j = np.nonzero(close)
            if len(i):
                ends = component[rows][i], component[columns][j]
                pairs = coo_array((np.ones(len(i), bool), ends), shape=(count, count))
                component = connected_components(pairs, directed=False)[1][component]
    firsts = np.unique(component, return_index=True)
    first_of = dict(zip(firsts[0].tolist(), firsts[1].tolist(), strict=True))
    return {
        name: names[first]
        for name, at in zip(names, component.tolist(), strict=True)
        if names[first := first_of[at]] != name
    }
