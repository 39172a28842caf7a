"""The Tuner: tries settings of the Trainer."""

TUNING_FILE = "tuning.json"
"""In the `tuner_results` artifact: the best trial and all trials, each with the Trainer's settings that it changes."""

TRIALS_FILE = "trials.csv"
"""In the `tuner_results` artifact: a row a trial, the best first."""
