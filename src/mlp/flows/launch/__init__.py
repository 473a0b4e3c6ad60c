"""Stages as jobs of a cluster: images, targets, submission, following, fetching what they made."""
