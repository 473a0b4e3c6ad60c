"""The model server: `python -m mlp.runtime.serving SPEC.json`.

A supervisor holds the listening socket and starts workers; each worker serves the champion, and has
a child process for the challenger.
"""
