"""The command line: thin clients of the control API, one command group per file."""
