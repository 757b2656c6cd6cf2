from gateway import codes
from schemas.bus import TOO_MANY_SESSIONS


def test_the_table_says_who_comes_back() -> None:
    assert {code for code in codes.REASONS if codes.reconnects(code)} == {4000, 4001, 4002, 4003, 4005, 4006, 4007}
    assert {code for code in codes.REASONS if not codes.reconnects(code)} == {4101, 4103, 4104, 4105}
    assert codes.reconnects(1006)


def test_workers_name_the_code_of_a_user_with_too_many_sessions_as_gateways_do() -> None:
    assert codes.TOO_MANY == TOO_MANY_SESSIONS
