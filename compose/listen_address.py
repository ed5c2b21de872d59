"""Where a process listens, as it is written in settings."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, an IPv6 host in brackets. Raises ValueError, saying what is expected."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or (":" in bare) != bracketed or not port.isascii() or not port.isdigit():
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464")
    if int(port) > 65535:
        raise ValueError(f"there is no port {port}: the highest is 65535")
    return bare, int(port)
