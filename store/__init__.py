"""What outlives everything else: logs, cursors, owners; one port, two stores (Cassandra, SQLite)."""
