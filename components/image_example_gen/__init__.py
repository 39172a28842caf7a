"""ImageExampleGen: checks images and writes those that do as examples."""

SUMMARY_FILE = "data_summary.json"
"""In the `examples` artifact: images by split and class, and what became of the others."""

QUARANTINE_FILE = "quarantine.jsonl"
"""In the `examples` artifact: a line for each file that could not be used, `{"file", "reason"}`."""
