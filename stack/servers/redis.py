"""Redis: the bus between workers and gateways. It keeps nothing on disk, for what it carries is in the store."""

import shutil
from typing import ClassVar, Final

from schemas.errors import ServerFailed
from stack.ports import LOOPBACK
from stack.servers.server import Server

_CONFIGURATION: Final = """\
bind {host}
port {port}
dir "{folder}"
daemonize no
loglevel warning
save ""
appendonly no
"""


class Redis(Server):
    """The `redis-server` of the system."""

    name = "redis"
    role = "redis"
    start_within: ClassVar[float] = 20.0
    stop_within: ClassVar[float] = 5.0

    @property
    def url(self) -> str:
        """Where clients find it: redis://host:port/0."""
        return f"redis://{self.address}/0"

    def missing(self) -> dict[str, str]:
        """Return what has to be installed before it can start."""
        return {} if shutil.which("redis-server") else {"redis-server": "redis-server"}

    def _program(self) -> str:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerFailed(
                "redis-server is missing: install it (apt-get install redis-server) or use --stack embedded"
            )
        return program

    def _prepare(self) -> list[str]:
        configuration = self.folder / "redis.conf"
        configuration.write_text(_CONFIGURATION.format(host=LOOPBACK, port=self.port, folder=self.folder))
        return [self._program(), str(configuration)]

    def _answers(self) -> bool:
        return self._ask(b"PING\r\n", 5) == b"+PONG"
