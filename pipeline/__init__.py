"""Wiring, configuration and commands: the only place that knows where things run."""
