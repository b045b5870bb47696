"""The command line: one module per command, with the name of the command."""
