"""What a new project is called, and how a section gets into its mlp.yaml."""
