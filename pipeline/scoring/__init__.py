"""Whole folders, tables and archives through a model: what is found, scored shard by shard, written and read again."""
