"""Why a job waits, how it runs and how it ended, from what the cluster has of it."""
