"""What all adapters may use: locks, files, processes, environments, waiting."""
