"""`python -m stack.fetch`: gets what `--stack real` needs into the cache ahead of time."""

import sys
import tempfile
from pathlib import Path

from schemas.errors import ServerFailed
from stack.servers import Cassandra, Kafka


def main() -> None:
    """Fetch the jars; nothing happens where they are in the cache. Exits with 1 and one line if that fails."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            for kind in (Kafka, Cassandra):
                kind(Path(folder)).fetch()
    except ServerFailed as exc:
        sys.exit(f"tocsin: {exc}")


if __name__ == "__main__":
    main()
