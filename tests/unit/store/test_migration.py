import pytest

from schemas.errors import StoreBehind
from store.migration import Migration, load, missing, refuse_if_behind, statements


def test_both_stores_have_the_same_migrations() -> None:
    names = [migration.name for migration in load("sqlite")]
    assert names == [migration.name for migration in load("cassandra")]
    assert names == sorted(names)
    assert names[0] == "0001_logs"


def test_each_migration_has_a_number_of_its_own() -> None:
    numbers = [migration.name.partition("_")[0] for migration in load("sqlite")]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_statements_end_with_a_semicolon_at_the_end_of_a_line() -> None:
    text = "-- a; comment;\nCREATE a (\n  -- inside;\n  x\n);\n\nINSERT ';' INTO b;\n"
    assert statements(text) == ("CREATE a (\n  x\n)", "INSERT ';' INTO b")


def test_missing_keeps_the_order() -> None:
    found = [Migration(name, ()) for name in ("0001_a", "0002_b", "0003_c")]
    assert missing(found, {"0002_b"}) == [found[0], found[2]]


def test_a_store_that_is_behind_is_refused_with_what_to_do() -> None:
    refuse_if_behind([])
    with pytest.raises(StoreBehind, match="lacks 0001_a, 0002_b: run `tocsin store apply`"):
        refuse_if_behind(["0001_a", "0002_b"])
