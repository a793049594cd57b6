"""Whose house a URL leads to, and what of it may be told."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from prefkit.errors import InputError

_HOUSE = [
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]
_HOUSE_NAMES = (".local", ".internal", ".localhost")


def check_url(url: str, where: str) -> None:
    """Refuse what is no base URL, and what carries a password, which is not repeated."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        loaded = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        whole = loaded = False
    if not whole:
        raise InputError(where, "no base URL", "one such as http://127.0.0.1:8000/v1", "Look at the address.")
    if loaded:
        remedy = "Put a key into an environment variable and name it under key-env."
        raise InputError(where, f"more than an address in the URL of {public_url(url)}", "a plain base URL", remedy)


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine or its private network: loopback, RFC 1918, unique local and link-local
    addresses, names without a dot, ``*.local``, ``*.internal``."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    address = _address(host)
    if address is None:
        return bool(host) and ("." not in host or host.endswith(_HOUSE_NAMES))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in _HOUSE if network.version == address.version)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL (``HTTPS_PROXY``, ``NO_PROXY``); what stays within the house goes
    past any."""
    parts = urlsplit(url)
    if is_local(url) or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, also in the short forms that systems take (``127.1``, ``134744072``)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment, for errors and records."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that cannot be read"
    return f"{parts.scheme}://{host}{port}{parts.path}"
