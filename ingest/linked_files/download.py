"""Download one file by https from an allowed host.

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

MAX_HOPS = 4  # requests on the way to a file, the first included
_MAY_PASS = {408, 425, 429}  # and its own errors (5xx)
_MIME = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}", re.ASCII)
_UNKNOWN = "application/octet-stream"
_PAGES = {"text/html", "application/xhtml+xml"}


class DownloadError(Exception):
    """The file could not be downloaded; the text says why, in fixed words of ours.

    `is_permanent`: trying again would not help.
    """

    def __init__(self, reason: str, *, is_permanent: bool) -> None:
        super().__init__(reason)
        self.reason, self.is_permanent = reason, is_permanent


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A downloaded file; `name` is safe to show and save, "" if it has none."""

    name: str
    mime: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Size and time that one file may take; `tls` has the trusted certificates."""

    octets: int
    seconds: float
    tls: ssl.SSLContext


async def fetch(url: str, hosts: Sequence[str], bounds: DownloadLimits) -> DownloadedFile:
    """Download a file. Raises DownloadError, and nothing else, when that fails."""
    try:
        async with asyncio.timeout(bounds.seconds):
            return await _follow(url, hosts, bounds)
    except TimeoutError:
        raise DownloadError("it took too long", is_permanent=False) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        raise DownloadError("no connection, or it broke off", is_permanent=False) from None


async def _follow(url: str, hosts: Sequence[str], bounds: DownloadLimits) -> DownloadedFile:
    """Follow redirects, each checked against the allowed hosts, to the file."""
    for _ in range(MAX_HOPS):
        if not is_allowed(url, hosts):
            raise DownloadError(
                "it leads to a place that INTAKE_FILE_HOSTS does not name", is_permanent=True
            )
        async with _open(url, bounds) as answer:
            if not answer.has_redirect_location:
                return await _read_file(url, answer, bounds)
            url = urljoin(url, answer.headers["Location"])
    raise DownloadError("it leads from place to place", is_permanent=True)


@asynccontextmanager
async def _open(url: str, bounds: DownloadLimits) -> AsyncIterator[httpx.Response]:
    """Yield the answer to a GET of the URL, from a public address of its host."""
    parts = urlsplit(url)
    addresses = await _resolve_public(parts.hostname or "", parts.port or HTTPS_PORT)
    headers = {"Accept-Encoding": "identity"}
    async with http_client.send_request(
        "GET", url, addresses, headers=headers, tls=bounds.tls, seconds=bounds.seconds
    ) as answer:
        yield answer


async def _resolve_public(host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raises DownloadError when one of them is not public."""
    try:
        addresses = await http_client.resolve(host, port)
    except OSError:
        raise DownloadError("its host is not known", is_permanent=False) from None
    if addresses != [host] and not all(map(http_client.is_public, addresses)):
        # a literal address is in the list of allowed hosts
        raise DownloadError("its host is one of an inner network", is_permanent=True)
    return addresses


async def _read_file(url: str, answer: httpx.Response, bounds: DownloadLimits) -> DownloadedFile:
    """Return the file in an answer. Raises DownloadError when there is none."""
    status, headers = answer.status_code, answer.headers
    if status != httpx.codes.OK:
        raise DownloadError(
            f"the server answered {status}",
            is_permanent=status not in _MAY_PASS and status < 500,  # noqa: PLR2004
        )
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError("it comes compressed, which was not asked for", is_permanent=True)
    mime = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_attachment = headers.get("Content-Disposition", "").lower().startswith("attachment")
    if mime in _PAGES and not is_attachment:
        raise DownloadError(
            "it is a page and not a file: perhaps it asks for a sign-in", is_permanent=True
        )
    content = await _read_content(answer, bounds.octets)
    return DownloadedFile(
        _choose_name(url, headers), mime if _MIME.fullmatch(mime) else _UNKNOWN, content
    )


async def _read_content(answer: httpx.Response, max_octets: int) -> bytes:
    """Return the body of an answer. Raises DownloadError when it is larger than `most` octets."""
    declared = answer.headers.get("Content-Length", "")
    content = bytearray()
    if not (declared.isdecimal() and int(declared) > max_octets):
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > max_octets:
                break
        else:
            return bytes(content)
    raise DownloadError("it is larger than INTAKE_FILE_LIMIT", is_permanent=True)


def _choose_name(url: str, headers: httpx.Headers) -> str:
    """Return the server's file name, else the end of the URL where it looks like one."""
    disposition = Message()
    disposition["Content-Disposition"] = headers.get("Content-Disposition", "")
    url_name = unquote(urlsplit(url).path).rpartition("/")[2]
    return filenames.make_safe(disposition.get_filename() or "") or (
        filenames.make_safe(url_name) if "." in url_name else ""
    )
