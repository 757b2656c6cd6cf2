"""One module a server: Kafka, Redis and Cassandra as in production; Tansu and Valkey from Python packages."""

from stack.servers.cassandra import Cassandra
from stack.servers.kafka import Kafka
from stack.servers.redis import Redis
from stack.servers.server import Server
from stack.servers.tansu import Tansu
from stack.servers.valkey import Valkey

__all__ = ["Cassandra", "Kafka", "Redis", "Server", "Tansu", "Valkey"]
