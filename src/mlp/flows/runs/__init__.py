"""Running the pipeline as a tracked run, recording it, delivering it, showing it."""
