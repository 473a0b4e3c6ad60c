"""The command line: one file per verb. Options in, flow called, result rendered."""
