"""Use cases: each builds a plan or a result, and prints nothing."""
