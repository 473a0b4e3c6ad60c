"""`python -m mlp`: the command line under this very interpreter."""

from mlp.cli.main import main

main()
