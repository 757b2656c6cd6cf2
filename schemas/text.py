"""Text that can go everywhere: what cannot be written as UTF-8 is refused where it enters."""


def is_encodable(*texts: str | None) -> bool:
    """Tell whether texts can be written as UTF-8. Those with lone surrogates cannot, which `json` of Python lets in."""
    try:
        for text in texts:
            if text is not None and not text.isascii():
                text.encode()
    except UnicodeEncodeError:
        return False
    return True
