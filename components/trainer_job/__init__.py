"""Training on a machine of its own, in the Trainer node's place."""
