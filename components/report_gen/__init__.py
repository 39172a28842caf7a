"""Writes the page that answers: is this model good, where is it bad, is it better than the last one, may it ship."""

FACTS_FILE, REPORT_FILE, CARD_FILE = "facts.json", "report.html", "model_card.md"
"""In the `report` artifact: the account of the run, and the two pages that are rendered from it."""

DOUBTFUL_FILE = "doubtful.csv"
"""Beside them: a row for each image that a person should look at."""
