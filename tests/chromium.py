"""The browser that opens pages in tests."""

import os
import shutil

import pytest


def find_chromium() -> str:
    """Returns the browser's path; where there is none a person's test is skipped, and one of CI fails."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    if path := next(found, None):
        return path
    give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    give_up("no Chromium on this machine (apt install chromium): the page is not opened")
