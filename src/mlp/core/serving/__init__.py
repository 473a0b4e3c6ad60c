"""Serving as data: the sections `serve` and `deploy`, replicas, the log of predictions."""
