"""`tocsin doctor`: looks at everything that a deployment rests on, and says what is wrong and what to do."""

from collections import Counter

import msgspec

from cli.doctor.examine import examine_kafka
from cli.doctor.findings import Finding
from cli.doctor.servers import examine_machine, examine_redis, examine_store
from schemas.errors import TocsinError
from streams.settings import Settings


async def examine(settings: Settings, *, as_json: bool) -> int:
    """Print one line for each finding; return 1 if one is a failure, else 0."""
    found = examine_machine(settings)
    incarnations: dict[str, int] = {}
    try:
        of_store, incarnations = await examine_store(settings)
        found += of_store
    except TocsinError as exc:
        found.append(Finding("store", "FAIL", str(exc), "TOCSIN_STORE says where it is"))
    try:
        found += await examine_kafka(settings, incarnations)
    except TocsinError as exc:
        found.append(Finding("Kafka", "FAIL", str(exc)))
    try:
        found += await examine_redis(settings)
    except TocsinError as exc:
        found.append(Finding("Redis", "FAIL", str(exc)))
    counts = Counter(one.level for one in found)
    if as_json:
        print(msgspec.json.encode({"findings": found, "failures": counts["FAIL"], "warnings": counts["warn"]}).decode())
    else:
        for one in found:
            print(one.line())
        print(f"{counts['FAIL']} failures, {counts['warn']} warnings")
    return 1 if counts["FAIL"] else 0
