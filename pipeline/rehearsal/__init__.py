"""Runs a compiled Vertex AI pipeline on this machine, task by task, each as the process that it names."""
