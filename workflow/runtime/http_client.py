"""HTTP client for servers that strangers name, safe against requests to our own network (SSRF).

The caller resolves a name once, checks the addresses, and the request goes to one of exactly
these addresses: what the name means a moment later does not matter (DNS pinning).
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

MAX_ADDRESSES = 4  # of one host; they are tried one after the other
DEFAULT_PORTS = {"https": 443, "http": 80}
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last four bytes


@lru_cache(maxsize=1)
def get_public_tls() -> ssl.SSLContext:
    """Return a TLS context that trusts the usual public authorities, or those in SSL_CERT_FILE."""
    return httpx.create_ssl_context()


async def resolve(host: str, port: int) -> list[str]:
    """Return every IP address of a host, once each.

    Raises OSError when the host is unknown.
    """
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


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
    """Send a request to one of these addresses and give the response, its body unread.

    The addresses are tried in order until one takes a connection; redirects are not followed.
    `seconds` is the limit of each wait (connect, read, write). Raises httpx.HTTPError when none of
    the first `MAX_ADDRESSES` takes a connection, or the connection breaks off.
    """
    parts = urlsplit(url)
    candidates = addresses[:MAX_ADDRESSES]
    # trust_env=False: a proxy would resolve the name again, and ~/.netrc would send a password.
    async with httpx.AsyncClient(verify=tls, trust_env=False, timeout=seconds) as client:
        for position, address in enumerate(candidates, 1):
            request = client.build_request(
                method,
                httpx.URL(url).copy_with(host=address),
                content=content or None,
                headers={"Host": parts.netloc, "User-Agent": "support-intake", **headers},
                extensions={"sni_hostname": parts.hostname or ""},
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if position == len(candidates):
                    raise
                continue
            try:
                yield response
            finally:
                await response.aclose()
            return


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the internet, not to this machine or network.

    An IPv4 address embedded in an IPv6 address must be public as well.
    """
    ip = ip_address(address.partition("%")[0])
    if not ip.is_global or ip.is_multicast:
        return False
    embedded = _get_embedded_ipv4(ip) if isinstance(ip, IPv6Address) else None
    return embedded is None or is_public(str(embedded))


def is_loopback(address: str) -> bool:
    """Return whether an IP address is this machine's own."""
    return ip_address(address.partition("%")[0]).is_loopback


def _get_embedded_ipv4(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
