"""Whether everything works: `mlp doctor`, `mlp status`, `mlp targets check`."""
