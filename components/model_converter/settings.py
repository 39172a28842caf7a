"""Settings of the export section: into which formats a pushed model is converted."""

from pydantic import Field, field_validator

from components.model_converter.formats import FormatName
from data.section import Settings


class ExportSettings(Settings):
    """Formats out of TensorFlow, beside the SavedModel that is pushed."""

    formats: tuple[FormatName, ...] = ()
    """Into what a pushed model is converted, too: `litert` (TFLite), `litert-int8` (its whole numbers), `onnx`."""

    max_accuracy_loss: float = Field(default=0.01, ge=0, le=1)
    """By how much a format's accuracy on test may be lower than the SavedModel's; beyond it the format is refused."""

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: tuple[FormatName, ...]) -> tuple[FormatName, ...]:
        if twice := sorted({name for name in formats if formats.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice; name each format once")
        return formats
