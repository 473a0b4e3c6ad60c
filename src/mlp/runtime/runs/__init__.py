"""What runs beside and inside a stage: its shell, its events, the recorder."""
