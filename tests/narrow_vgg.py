"""VGG16 with an eighth of its channels: Keras's own layers in its order, a sixtieth of the weights and of the work.

For tests of what is done around the network. Those of the network itself, and of whole runs, have the whole one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tf_keras.src.applications import vgg16

from components.trainer.backbones import BACKBONES

_LAYERS = vgg16.layers
_WHOLE = BACKBONES["vgg16"]
_PART = 8


class _NarrowLayers:
    def __getattr__(self, name: str) -> Any:
        return getattr(_LAYERS, name)

    def Conv2D(self, filters: int, *arguments: Any, **options: Any) -> Any:
        return _LAYERS.Conv2D(filters // _PART, *arguments, **options)


@contextmanager
def narrow_vgg() -> Iterator[None]:
    """Makes what is built as VGG16 inside narrow."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vgg16, "layers", _NarrowLayers())
        channels = tuple(channels // _PART for channels in _WHOLE.channels)
        patched.setitem(BACKBONES, "vgg16", replace(_WHOLE, channels=channels))
        yield


@contextmanager
def whole_vgg() -> Iterator[None]:
    """Takes that back inside."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vgg16, "layers", _LAYERS)
        patched.setitem(BACKBONES, "vgg16", _WHOLE)
        yield
