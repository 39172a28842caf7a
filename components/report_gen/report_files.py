"""The files of a report: the account, and the page and the model card that are rendered from it."""

import os
from dataclasses import replace

from components.report_gen import CARD_FILE, FACTS_FILE, REPORT_FILE
from components.report_gen.account import Account
from components.report_gen.label_doubts import shorten, write_doubtful
from components.report_gen.model_card import render_card
from components.report_gen.page import render_page
from data.json_files import write_json

_SHOWN_QUARANTINED = 50


def write_report(account: Account, folder: str) -> None:
    """Writes the files into a local or `gs://` folder.

    Of the files in quarantine and of doubtful images the account and its pages name the first; `DOUBTFUL_FILE` has all.
    """
    import tensorflow as tf

    if data := account.data:
        account = replace(account, data={**data, "quarantine": data["quarantine"][:_SHOWN_QUARANTINED]})
    doubtful = account.doubts["rows"] if account.doubts is not None else None
    if account.doubts is not None:
        account = replace(account, doubts=shorten(account.doubts))
    write_json(os.path.join(folder, FACTS_FILE), account.to_json())
    for name, text in ((CARD_FILE, render_card(account)), (REPORT_FILE, render_page(account))):
        with tf.io.gfile.GFile(os.path.join(folder, name), "wb") as file:
            file.write(text.encode("utf-8"))
    if doubtful is not None:
        write_doubtful(doubtful, folder)
