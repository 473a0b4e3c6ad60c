"""Versions of the project's model: registered, promoted, rolled back, archived, packaged."""
