"""The Trainer: learns from transformed examples, and exports a model."""

TRAINING_FILE = "training.json"
"""In the `model_run` artifact: epochs, the best one, weights, strategy, precision and versions."""
