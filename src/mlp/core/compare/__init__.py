"""What differs between two runs, why a metric differs, and whether a run came out again."""
