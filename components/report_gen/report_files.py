"""The files of a report: the facts, and the page and the model card that are rendered from them."""

import json
import os
from typing import Any

from components.report_gen.model_card import render_card
from components.report_gen.page import render_page

FACTS_FILE = "facts.json"
REPORT_FILE = "report.html"
CARD_FILE = "model_card.md"
FACTS_VERSION = 1
"""Of the layout of the facts: what a template needs may be missing in those of another version."""


def write_report(facts: dict[str, Any], folder: str) -> None:
    """Writes the three files into a local or `gs://` folder."""
    import tensorflow as tf

    tf.io.gfile.makedirs(folder)
    files = {
        FACTS_FILE: json.dumps(facts, ensure_ascii=False, allow_nan=False),
        CARD_FILE: render_card(facts),
        REPORT_FILE: render_page(facts),
    }
    for name, text in files.items():
        with tf.io.gfile.GFile(os.path.join(folder, name), "wb") as file:
            file.write(text.encode("utf-8"))


def without_images(facts: dict[str, Any]) -> dict[str, Any]:
    """Returns the facts of a report for private data: images are named, not shown."""
    return {**facts, "thumbnails": {}, "heat": {}, "images_shown": False}
