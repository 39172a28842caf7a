"""Pushed models on Amazon SageMaker: endpoints, batch transform, and the way back."""
