"""95 % confidence intervals of shares of images: accuracy, recall, precision.

Source: Wilson 1927, without continuity correction.
"""

import math

WILSON = "Wilson"
Range = tuple[float, float]
_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson_interval(hits: float, images: float) -> Range | None:
    """Returns the 95 % interval of a share, or None of nothing."""
    if images <= 0:
        return None
    share, z2 = hits / images, _Z * _Z
    centre = share + z2 / (2 * images)
    spread = _Z * math.sqrt(share * (1 - share) / images + z2 / (4 * images * images))
    scale = 1 + z2 / images
    # At 0 and 1 one end is exact, but for the last bits of the square root.
    low = 0.0 if hits <= 0 else max(0.0, (centre - spread) / scale)
    return low, 1.0 if hits >= images else min(1.0, (centre + spread) / scale)
