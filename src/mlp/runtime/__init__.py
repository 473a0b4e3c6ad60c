"""What runs inside a stage, a training process or the recorder."""
