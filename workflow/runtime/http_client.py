"""Asking strangers' servers by HTTP.

At an address that was looked at first, bounded in time, and bare.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpx

MAX_ADDRESSES = 4  # of one host, tried one after the other
DEFAULT_PORTS = {"https": 443, "http": 80}
_EMBEDDING = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last four bytes


@lru_cache(maxsize=1)
def get_public_tls() -> ssl.SSLContext:
    """Believes the authorities that browsers believe, or those in SSL_CERT_FILE."""
    return httpx.create_ssl_context()


async def resolve(host: str, port: int) -> list[str]:
    """Every IP address of a host, once each. Raises OSError when it is not known."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@asynccontextmanager
async def send_request(
    method: str,
    url: str,
    addresses: Sequence[str],
    *,
    headers: Mapping[str, str],
    tls: ssl.SSLContext,
    seconds: float,
    content: bytes = b"",
) -> AsyncIterator[httpx.Response]:
    """The answer of the server at one of these addresses, its body unread.

    What the name means later is no matter.

    No redirect is followed. Raises httpx.HTTPError when none of the first four takes a connection,
    or it breaks off.
    """
    parts, most = urlsplit(url), addresses[:MAX_ADDRESSES]
    # No proxy and no password file of this machine: what is asked goes where it was looked up, and
    # bare.
    async with httpx.AsyncClient(verify=tls, trust_env=False, timeout=seconds) as client:
        for at, address in enumerate(most, 1):
            request = client.build_request(
                method,
                httpx.URL(url).copy_with(host=address),
                content=content or None,
                headers={"Host": parts.netloc, "User-Agent": "support-intake", **headers},
                extensions={"sni_hostname": parts.hostname or ""},
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if at == len(most):
                    raise
                continue
            try:
                yield answer
            finally:
                await answer.aclose()
            return


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet.

    And not of this machine or network in whatever writing.
    """
    ip = ip_address(address.partition("%")[0])
    inner = _inner(ip) if isinstance(ip, IPv6Address) else None
    return ip.is_global and not ip.is_multicast and (inner is None or is_public(str(inner)))


def is_loopback(address: str) -> bool:
    """Return whether an IP address is this machine's own."""
    return ip_address(address.partition("%")[0]).is_loopback


def _inner(ip: IPv6Address) -> IPv4Address | None:
    if ip in _EMBEDDING:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
