"""Compares the images of this run with those that the blessed model was trained on."""
