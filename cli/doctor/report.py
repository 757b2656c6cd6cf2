"""`tocsin doctor`: looks at everything that a deployment rests on, and says what is wrong and what to do."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from cli.doctor.examine import examine_kafka
from cli.doctor.servers import examine_machine, examine_redis, examine_store
from cli.doctor.tokens import examine_tokens
from cli.outputs import Examination, Finding
from cli.terminal import say, show
from schemas.errors import TocsinError
from streams.settings import Settings


async def examine(settings: Settings, *, as_json: bool) -> int:
    """Print one line for each finding; return 1 if one is a failure, else 0."""
    found = [*examine_machine(settings), *await examine_tokens(settings)]
    incarnations: dict[str, int] | None = None  # not known: nothing is concluded from them
    with _finding(found, "store", "TOCSIN_STORE says where it is"):
        of_store, incarnations = await examine_store(settings)
        found += of_store
    with _finding(found, "Kafka"):
        found += await examine_kafka(settings, incarnations)
    with _finding(found, "Redis"):
        found += await examine_redis(settings)
    counts = Counter(one.level for one in found)
    if as_json:
        show(Examination(found, counts["FAIL"], counts["warn"]))
    else:
        say(*(one.line() for one in found), f"{counts['FAIL']} failures, {counts['warn']} warnings")
    return 1 if counts["FAIL"] else 0


@contextlib.contextmanager
def _finding(found: list[Finding], check: str, advice: str = "") -> Iterator[None]:
    """Make a finding of what keeps a server from being looked at; the others are looked at all the same."""
    try:
        yield
    except TocsinError as exc:
        found.append(Finding(check, "FAIL", str(exc), advice))
    except Exception as exc:  # noqa: BLE001 - whatever a client raises, it is this server's finding
        found.append(Finding(check, "FAIL", f"could not be looked at: {type(exc).__name__}: {exc}", advice))
