"""Text that can go everywhere: what cannot be written as UTF-8 is refused, and what drives a terminal is escaped."""

from typing import Final

KEPT: Final = "\u200c\u200d\u00a0\u3000"  # joiners of scripts and emoji, and spaces: they drive nothing


def is_encodable(*texts: str | None) -> bool:
    """Tell whether texts can be written as UTF-8. Those with lone surrogates cannot, which `json` of Python lets in."""
    try:
        for text in texts:
            if text is not None and not text.isascii():
                text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Return a text with every character that drives terminals as its escape sequence, such as that of ESC."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in KEPT else c.encode("unicode_escape").decode() for c in text)
