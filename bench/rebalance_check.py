"""What a rebalance run says: pure functions of what was sent, what came out, the changelog and the files of tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from bench.rebalance_worker import Last, Out, decode_last

Values = Mapping[bytes, bytes]
Changes = Sequence[tuple[int, bytes, bytes | None]]  # (offset, key, value) of one changelog partition, in order


class Verdict(msgspec.Struct, kw_only=True):
    """What one run found; everything but `repeats` and `late` has to be 0.

    lost        events that did not come out
    stalled     partitions whose commit has not reached the end
    stale       events for which the worker had an older value of the user than the event before
    wrong       users whose last value in the changelog is not what was sent
    wrong_files users whose value in files is wrong after what the changelog has beyond the files' offset was read again
    late        changelog records that a former owner wrote after its successor (its lower epoch makes them harmless)
    repeats     events that came out more than once
    """

    lost: int
    stalled: int
    stale: int
    wrong: int
    wrong_files: int
    late: int
    repeats: int

    @property
    def bad(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.lost or self.stalled or self.stale or self.wrong or self.wrong_files)


def judge(
    *,
    sent: Mapping[str, int],
    total: int,
    outs: Iterable[Out],
    stalled: int,
    changelog: Mapping[int, Changes],
    files: Iterable[tuple[int, int, Values]],
) -> Verdict:
    """Return the verdict.

    `sent` is the last seq of each user; `files` are (partition, offset or -1 where there is none, what they hold).
    """
    rows = list(outs)
    ids = Counter(row.id for row in rows)
    touched = late_users(changelog)
    folded = {partition: fold(changes) for partition, changes in changelog.items()}
    last = {key.decode(): decode_last(value) for values in folded.values() for key, value in values.items()}
    return Verdict(
        lost=total - len(ids),
        stalled=stalled,
        stale=sum(row.before.seq < row.seq - 1 and row.user not in touched for row in rows),
        wrong=sum(not _right(last.get(user), seq) and user not in touched for user, seq in sent.items()),
        wrong_files=sum(
            differences(fold(changelog[number], offset, values), folded[number]) for number, offset, values in files
        ),
        late=len(touched),
        repeats=sum(ids.values()) - len(ids),
    )


def _right(last: Last | None, seq: int) -> bool:
    return last is not None and last.seq == seq and last.count == seq


def fold(changes: Changes, after: int = -1, values: Values | None = None) -> dict[bytes, bytes]:
    """Return the values that a changelog makes of others, read from after an offset: what recovery does."""
    made = dict(values or {})
    for offset, key, value in changes:
        if offset <= after:
            continue
        if value is None:
            made.pop(key, None)
        else:
            made[key] = value
    return made


def differences(one: Values, other: Values) -> int:
    """Return for how many keys two tables differ."""
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())


def late_users(changelog: Mapping[int, Changes]) -> set[str]:
    """Return the users for whom a lower epoch was written after a higher one."""
    highest: dict[bytes, int] = {}
    late: set[str] = set()
    for changes in changelog.values():
        for _, key, value in changes:
            epoch = decode_last(value).epoch if value is not None else 0
            if epoch < highest.get(key, 0):
                late.add(key.decode())
            highest[key] = max(epoch, highest.get(key, 0))
    return late
