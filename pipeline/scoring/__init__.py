"""Whole folders, tables and archives through a model: what is found, scored shard by shard, written and read again."""

FALSE_ALARMS = 0.02
"""How likely an alarm may be where nothing has drifted."""
