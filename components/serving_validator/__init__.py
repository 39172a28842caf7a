"""Tries the exported model as a server would use it, before it is pushed."""
