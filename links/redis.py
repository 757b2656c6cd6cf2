"""How Redis is found to be gone."""

from typing import Final

from redis.exceptions import RedisError

# Of uvloop comes RuntimeError when a connection was closed and the client does not know it yet.
LOST: Final = (RedisError, OSError, TimeoutError, RuntimeError)
