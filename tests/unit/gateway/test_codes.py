from gateway import codes


def test_the_table_says_who_comes_back() -> None:
    assert {code for code in codes.REASONS if codes.reconnects(code)} == {4000, 4001, 4002, 4003, 4005, 4006}
    assert {code for code in codes.REASONS if not codes.reconnects(code)} == {4101, 4103, 4104, 4105}
    assert codes.reconnects(1006)
