"""What gives a setting that is a text its form, and a message that shows it."""

import re

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError


def formed(pattern: str, form: str) -> AfterValidator:
    """Returns what refuses a text of another form; its message shows the form, not the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("form", "use {form}", {"form": form})
        return value

    return AfterValidator(check)
