"""One file by https from a place the settings allow: bounded in size and time, and never from inside this network."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from parsers import names
from workflow.linked import HTTPS, allowed

HOPS = 4  # places asked on the way to a file, the first included
ADDRESSES = 4  # of one host, tried one after the other
_AGAIN = {408, 425, 429}  # and whatever the server says of itself (5xx)
_MIME = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}", re.ASCII)
_UNKNOWN = "application/octet-stream"
_PAGES = {"text/html", "application/xhtml+xml"}
_EMBEDDING = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last four bytes


class NotFetchedError(Exception):
    """The file is not to be had; the text says why, in our own fixed words. `final`: asking again would not help."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file as it came; `name` is safe to show and save, "" if it has none."""

    name: str
    mime: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one file may take; `tls` says whose certificates are believed."""

    octets: int
    seconds: float
    tls: ssl.SSLContext


@lru_cache(maxsize=1)
def public_tls() -> ssl.SSLContext:
    """Believes the authorities that browsers believe, or those in SSL_CERT_FILE."""
    return httpx.create_ssl_context()


async def fetch(url: str, hosts: Sequence[str], bounds: Bounds) -> Fetched:
    """Get a file. Raises NotFetchedError, and nothing else, when that does not work."""
    try:
        async with asyncio.timeout(bounds.seconds):
            return await _follow(url, hosts, bounds)
    except TimeoutError:
        raise NotFetchedError("it took too long", final=False) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        raise NotFetchedError("no connection, or it broke off", final=False) from None


async def _follow(url: str, hosts: Sequence[str], bounds: Bounds) -> Fetched:
    for _ in range(HOPS):
        if not allowed(url, hosts):
            raise NotFetchedError("it leads to a place that INTAKE_FILE_HOSTS does not name", final=True)
        async with _asked(url, bounds) as answer:
            if not answer.has_redirect_location:
                return await _file(url, answer, bounds)
            url = urljoin(url, answer.headers["Location"])
    raise NotFetchedError("it leads from place to place", final=True)


@asynccontextmanager
async def _asked(url: str, bounds: Bounds) -> AsyncIterator[httpx.Response]:
    """The answer of the server, at an address that was looked at: what the name means to others later is no matter."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or HTTPS
    addresses = await _addresses(host, port)
    # No proxy and no password file of this machine: what is asked goes where it was looked up, and bare.
    async with httpx.AsyncClient(verify=bounds.tls, trust_env=False, timeout=bounds.seconds) as client:
        for at, address in enumerate(addresses, 1):
            request = client.build_request(
                "GET", httpx.URL(url).copy_with(host=address),
                headers={"Host": parts.netloc, "Accept-Encoding": "identity", "User-Agent": "support-intake"},
                extensions={"sni_hostname": host},
            )  # fmt: skip
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if at == len(addresses):
                    raise
                continue
            try:
                yield answer
            finally:
                await answer.aclose()
            return


async def _addresses(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise NotFetchedError("its host is not known", final=False) from None
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if addresses != [host] and not all(map(is_public, addresses)):  # a bare address was allowed as such, by the list
        raise NotFetchedError("its host is one of an inner network", final=True)
    return addresses[:ADDRESSES]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, and not of this machine or network in whatever writing."""
    ip = ip_address(address.partition("%")[0])
    inner = _inner(ip) if isinstance(ip, IPv6Address) else None
    return ip.is_global and not ip.is_multicast and (inner is None or is_public(str(inner)))


def _inner(ip: IPv6Address) -> IPv4Address | None:
    if ip in _EMBEDDING:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


async def _file(url: str, answer: httpx.Response, bounds: Bounds) -> Fetched:
    status, head = answer.status_code, answer.headers
    if status != httpx.codes.OK:
        raise NotFetchedError(f"the server said {status}", final=status not in _AGAIN and status < 500)  # noqa: PLR2004
    if head.get("Content-Encoding", "identity").lower() != "identity":
        raise NotFetchedError("it comes compressed, which was not asked for", final=True)
    mime = head.get("Content-Type", "").partition(";")[0].strip().lower()
    shown_as_file = head.get("Content-Disposition", "").lower().startswith("attachment")
    if mime in _PAGES and not shown_as_file:
        raise NotFetchedError("it is a page and not a file: perhaps it asks for a sign-in", final=True)
    content = await _content(answer, bounds.octets)
    return Fetched(_name(url, head), mime if _MIME.fullmatch(mime) else _UNKNOWN, content)


async def _content(answer: httpx.Response, most: int) -> bytes:
    stated = answer.headers.get("Content-Length", "")
    content = bytearray()
    if not (stated.isdecimal() and int(stated) > most):
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > most:
                break
        else:
            return bytes(content)
    raise NotFetchedError("it is larger than INTAKE_FILE_LIMIT", final=True)


def _name(url: str, head: httpx.Headers) -> str:
    """What the server calls the file, else the end of its link where that looks like a name."""
    told = Message()
    told["Content-Disposition"] = head.get("Content-Disposition", "")
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return names.safe(told.get_filename() or "") or (names.safe(last) if "." in last else "")
