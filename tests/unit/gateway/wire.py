"""What stands on the wire, for tests that look at what a gateway writes."""


def unframed(data: bytes) -> bytes:
    """Return the JSON object of a frame that a gateway has written."""
    return data[data.index(b"{") :]
