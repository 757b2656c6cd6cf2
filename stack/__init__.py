"""Starts servers as children (Kafka, Redis, Cassandra, or the embedded ones) and supervises a whole deployment."""
