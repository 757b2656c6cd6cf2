"""Networks that a setting names: `10.0.0.0/8, 2001:db8::/32, 192.0.2.7`."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from schemas.errors import SettingsError

Network = IPv4Network | IPv6Network


def networks_from(text: str, name: str) -> tuple[Network, ...]:
    """Return the networks that a setting lists by commas; a single address is one as well. Raises `SettingsError`."""
    found: list[Network] = []
    for word in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(ip_network(word, strict=False))
        except ValueError:
            raise SettingsError(f"{name}: {word!r} is no network, such as 10.0.0.0/8, and no address") from None
    return tuple(found)
