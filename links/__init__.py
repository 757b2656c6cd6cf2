"""What both ends of Kafka and Redis, workers and gateways, have to know about connections that are lost."""
