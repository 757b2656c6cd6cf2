"""Metrics, health and logging, the same in every process."""
