"""Comparing and reproducing runs, and where a file comes from."""
