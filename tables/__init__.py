"""What a worker remembers of what it owns: `connections` and `logs`, whose docstrings name their single writers."""
