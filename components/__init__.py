"""What runs inside a TFX node: one sub-package per node."""
