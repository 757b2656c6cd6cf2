from schemas.text import is_encodable


def test_only_what_utf_8_can_hold_is_let_in() -> None:
    assert is_encodable("u1", "ключ", "\U0001f600", "", None)
    for bad in ("\ud800", "a\udc00", "\udfff\ud800", "\ud83d"):
        assert not is_encodable(bad)
        assert not is_encodable("u1", bad)
