"""A run as data: its pipeline, its events, its provenance, and how it is read back."""
