"""One file by https from a place the settings allow.

Bounded in size and time, and never from inside this network.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from parsers.text import filenames
from workflow.filing.linked_files import HTTPS_PORT, is_allowed
from workflow.runtime import http_client

MAX_HOPS = 4  # places asked on the way to a file, the first included
_AGAIN = {408, 425, 429}  # and whatever the server says of itself (5xx)
_MIME = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}", re.ASCII)
_UNKNOWN = "application/octet-stream"
_PAGES = {"text/html", "application/xhtml+xml"}


class DownloadError(Exception):
    """The file is not to be had; the text says why, in our own fixed words.

    `final`: asking again would not help.
    """

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A file as it came; `name` is safe to show and save, "" if it has none."""

    name: str
    mime: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """What one file may take; `tls` says whose certificates are believed."""

    octets: int
    seconds: float
    tls: ssl.SSLContext


async def fetch(url: str, hosts: Sequence[str], bounds: DownloadLimits) -> DownloadedFile:
    """Get a file. Raises DownloadError, and nothing else, when that does not work."""
    try:
        async with asyncio.timeout(bounds.seconds):
            return await _follow(url, hosts, bounds)
    except TimeoutError:
        raise DownloadError("it took too long", final=False) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        raise DownloadError("no connection, or it broke off", final=False) from None


async def _follow(url: str, hosts: Sequence[str], bounds: DownloadLimits) -> DownloadedFile:
    for _ in range(MAX_HOPS):
        if not is_allowed(url, hosts):
            raise DownloadError(
                "it leads to a place that INTAKE_FILE_HOSTS does not name", final=True
            )
        async with _asked(url, bounds) as answer:
            if not answer.has_redirect_location:
                return await _file(url, answer, bounds)
            url = urljoin(url, answer.headers["Location"])
    raise DownloadError("it leads from place to place", final=True)


@asynccontextmanager
async def _asked(url: str, bounds: DownloadLimits) -> AsyncIterator[httpx.Response]:
    parts = urlsplit(url)
    addresses = await _addresses(parts.hostname or "", parts.port or HTTPS_PORT)
    headers = {"Accept-Encoding": "identity"}
    async with http_client.send_request(
        "GET", url, addresses, headers=headers, tls=bounds.tls, seconds=bounds.seconds
    ) as answer:
        yield answer


async def _addresses(host: str, port: int) -> list[str]:
    try:
        addresses = await http_client.resolve(host, port)
    except OSError:
        raise DownloadError("its host is not known", final=False) from None
    if addresses != [host] and not all(
        map(http_client.is_public, addresses)
    ):  # a bare address was allowed by the list
        raise DownloadError("its host is one of an inner network", final=True)
    return addresses


async def _file(url: str, answer: httpx.Response, bounds: DownloadLimits) -> DownloadedFile:
    status, head = answer.status_code, answer.headers
    if status != httpx.codes.OK:
        raise DownloadError(
            f"the server said {status}",
            final=status not in _AGAIN and status < 500,  # noqa: PLR2004
        )
    if head.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError("it comes compressed, which was not asked for", final=True)
    mime = head.get("Content-Type", "").partition(";")[0].strip().lower()
    shown_as_file = head.get("Content-Disposition", "").lower().startswith("attachment")
    if mime in _PAGES and not shown_as_file:
        raise DownloadError(
            "it is a page and not a file: perhaps it asks for a sign-in", final=True
        )
    content = await _content(answer, bounds.octets)
    return DownloadedFile(_name(url, head), mime if _MIME.fullmatch(mime) else _UNKNOWN, content)


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
    raise DownloadError("it is larger than INTAKE_FILE_LIMIT", final=True)


def _name(url: str, head: httpx.Headers) -> str:
    """Return the file's name as the server gives it.

    Else the end of its link, where that looks like a name.
    """
    told = Message()
    told["Content-Disposition"] = head.get("Content-Disposition", "")
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return filenames.make_safe(told.get_filename() or "") or (
        filenames.make_safe(last) if "." in last else ""
    )
