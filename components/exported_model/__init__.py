"""What an exported model is: what it answers, what it says of itself, and its weights."""

SAVED_MODEL_FILE = "saved_model.pb"
"""What TensorFlow puts into the folder of every SavedModel."""
