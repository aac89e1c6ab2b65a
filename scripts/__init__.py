"""Everything a person starts: command line, daemon, local API, demo, benchmarks."""
