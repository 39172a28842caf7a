"""Measures a trained model on the test split and decides whether it may be pushed."""
