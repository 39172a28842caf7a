"""Vertex AI: what the pipeline becomes there, what it may cost, and whether it can run."""
