"""What is merged in the lane bulk: entries that a later one with the same key replaces."""

import json

from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import Row
from streams.collapse import entry_id, merged
from streams.connections import runs_of, window

BULK = "inbox/bulk"


def row(seq: int, key: str = "", *, device: str = "", expires: int = 0, skip: str = "", **more: object) -> Row:
    shown = {"id": f"n{seq}", **({"collapse_key": key} if key else {}), **more}
    frame = b"" if skip else json.dumps(shown, separators=(",", ":")).encode()
    return Row(seq, seq, seq, "", b"", 5, expires, device, frame, skip)


def test_only_the_last_under_a_key_is_sent() -> None:
    rows = [row(1, "a"), row(2, "b"), row(3), row(4, "a"), row(5, "a")]
    runs = window(rows, log=BULK, device="phone", head=5, now_ms=0, limit_bytes=10_000)
    assert [(run.first, run.last, run.reason) for run in runs] == [
        (1, 1, "merged"), (2, 2, ""), (3, 3, ""), (4, 4, "merged"), (5, 5, ""),
    ]  # fmt: skip


def test_other_lanes_are_never_merged() -> None:
    rows = [row(1, "a"), row(2, "a")]
    for lane in ("critical", "normal"):
        assert [run.reason for run in runs_of(rows, f"inbox/{lane}", "phone", 0)] == ["", ""]


def test_what_a_device_does_not_see_replaces_nothing_for_it() -> None:
    rows = [row(1, "a"), row(2, "a", device="tv"), row(3, "a", expires=10), row(4, skip="rate_limited")]
    assert merged(rows, BULK, "phone", 20) == frozenset()
    assert merged(rows, BULK, "tv", 20) == {1}
    assert merged(rows, BULK, "phone", 5) == {1}


def test_a_key_inside_of_data_is_not_one() -> None:
    rows = [row(1, data={"collapse_key": "a"}), row(2, data={"collapse_key": "a"})]
    assert merged(rows, BULK, "phone", 0) == frozenset()


def test_the_id_of_a_row_is_the_one_that_its_frame_says() -> None:
    assert entry_id(row(7, "a")) == "n7"


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12))
def test_the_last_of_each_key_and_all_without_one_remain(keys: list[str]) -> None:
    rows = [row(i + 1, key) for i, key in enumerate(keys)]
    replaced = merged(rows, BULK, "phone", 0)
    left = [key for i, key in enumerate(keys) if i + 1 not in replaced]
    assert sorted(key for key in left if key) == sorted({key for key in keys if key})
    assert left.count("") == keys.count("")
    for seq in replaced:
        assert keys[seq - 1] in keys[seq:]
