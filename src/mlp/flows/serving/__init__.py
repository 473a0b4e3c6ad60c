"""The model server here and on a target, and the log of what it predicted."""
