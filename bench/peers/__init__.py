"""Servers that stand beside Tocsin in benchmarks."""
