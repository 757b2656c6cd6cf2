"""Benchmarks of the hot paths; each prints a table and is no test."""
