"""How an address is written: IPv6 addresses in brackets, since a port follows."""


def host_port(host: str, port: int) -> str:
    """Return `host:port`, or `[host]:port` of an IPv6 address."""
    return f"[{bare(host)}]:{port}" if ":" in host else f"{host}:{port}"


def bare(host: str) -> str:
    """Return a host without the brackets that an IPv6 address may be written in: sockets take it so."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
