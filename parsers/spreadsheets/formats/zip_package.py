"""A zip of parts, as .xlsx, .xlsb and .ods are, unpacked within limits.

Its own word on sizes counts for nothing.
"""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from urllib.parse import urljoin

from parsers.item import ParseError
from parsers.spreadsheets.formats import xml
from parsers.spreadsheets.formats.xml import DAMAGED

MAX_ENTRIES = 2_000
MAX_PART = 256 * 2**20  # bytes of one part, unpacked; 100,000 rows of 15 columns need 55 to 200 MB
MAX_TOTAL = 512 * 2**20
MAX_RATIO = (
    250  # unpacked to packed; sheets reach 10 to 60, and only what is made to be a bomb more
)
_SMALL = 4 * 2**20  # below this no ratio is dangerous
_CHUNK = 2**16
_MERGE = b"mergeCell"
_TOO_LARGE = "a workbook that unpacks to far more than it may: export fewer messages"
_ENCRYPTED = 1  # bit of a zip entry's flags
_INSIDE = {
    "worksheet",
    "officeDocument",
    "sharedStrings",
    "styles",
}  # what must not be kept elsewhere

LINK = ("https://", "http://", "mailto:")  # how an address begins that a person may be led to

Related = dict[str, tuple[str, str]]  # id -> last word of the relationship's type, and its target


@dataclass(slots=True)
class Package:
    """An opened zip whose parts have all been unpacked once.

    Sizes, checksums and document types are checked.

    `roots` are the root elements of its XML parts, `damaged` those parts that are not well-formed,
    both by part name in lower case, as part names ignore case (OPC §6.2).
    """

    archive: zipfile.ZipFile = field(repr=False)
    packed: int  # bytes of the file: no entry can be larger, whatever it says
    names: dict[str, zipfile.ZipInfo] = field(repr=False)
    roots: dict[str, str] = field(default_factory=dict, repr=False)
    damaged: set[str] = field(default_factory=set, repr=False)
    merging: set[str] = field(default_factory=set, repr=False)  # parts that may name merged cells

    def unpack(self, name: str) -> Iterator[bytes]:
        """Unpack a part piece by piece.

        Raises ParseError when it is missing, damaged or larger than it may be.
        """
        info = self.names.get(name.casefold())
        if info is None:
            raise ParseError(DAMAGED)
        size, most = 0, min(MAX_PART, max(_SMALL, MAX_RATIO * min(info.compress_size, self.packed)))
        try:
            with self.archive.open(info) as part:
                while chunk := part.read(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        raise ParseError(_TOO_LARGE)
                    yield chunk
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            ValueError,
        ) as error:
            raise error if isinstance(error, ParseError) else ParseError(DAMAGED) from error

    def elements(self, name: str) -> list[xml.Element]:
        """Read all elements of a small part."""
        return xml.elements(self.unpack(name))

    def require(self, name: str) -> str:
        """The root element of a part that has to be read.

        Raises ParseError when it is missing or not well-formed.
        """
        key = name.casefold()
        if key not in self.names or key in self.damaged:
            raise ParseError(DAMAGED)
        return self.roots.get(key, "")

    def main_part(self, usual: str) -> str:
        """The part the package is about.

        Raises ParseError when it is missing or not well-formed.
        """
        found = [target for kind, target in self.related("").values() if kind == "officeDocument"]
        main = found[0] if found else usual
        self.require(main)
        return main

    def related(self, part: str) -> Related:
        """What a part refers to (OPC §9.3), "" being the package.

        Raises ParseError where a sheet is kept elsewhere.

        The types of transitional and strict workbooks end alike.
        """
        folder, _, name = part.rpartition("/")
        rels = f"{folder}/_rels/{name}.rels".removeprefix("/")
        found: Related = {}
        for _, tag, attrs in self.elements(rels) if rels.casefold() in self.names else ():
            if tag != "Relationship":
                continue
            kind, target = attrs.get("Type", "").rpartition("/")[2], attrs.get("Target", "")
            if attrs.get("TargetMode") != "External":
                target = _resolved(f"/{folder}/" if folder else "/", target)
            elif kind in _INSIDE:
                raise ParseError(
                    "a workbook whose sheets are kept elsewhere: copy the messages into one"
                    " workbook"
                )
            found[attrs.get("Id", "")] = (kind, target)
        return found

    def addresses(self, part: str) -> dict[str, str]:
        """The web and mail addresses that the cells of a sheet lead to.

        By the id of the relationship.
        """
        found = self.related(part).items()
        return {
            key: target
            for key, (kind, target) in found
            if kind == "hyperlink" and target.startswith(LINK)
        }


def _resolved(base: str, target: str) -> str:
    try:
        return urljoin(base, target.replace("\\", "/")).removeprefix("/")
    except ValueError as error:  # an address that is none, as //[
        raise ParseError(DAMAGED) from error


def open_package(raw: bytes) -> Package:
    """Open a zip from its bytes.

    Raises ParseError where it is damaged, locked, too large, or holds a document type.
    """
    if raw.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise ParseError(f"a zip of more than {MAX_ENTRIES} files: no workbook of ours")
    try:
        archive = zipfile.ZipFile(BytesIO(raw))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ParseError(DAMAGED) from error
    names = {info.filename.replace("\\", "/").casefold(): info for info in archive.infolist()}
    if any(info.flag_bits & _ENCRYPTED for info in names.values()):
        raise ParseError("a password-protected file: save it without a password")
    if any(
        info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        for info in names.values()
    ):
        raise ParseError(DAMAGED)
    package = Package(archive, len(raw), names)
    _probe(package)
    return package


def _probe(package: Package) -> None:
    """Unpack everything once.

    The sizes as they are, and no document type in any XML part, read or not.
    """
    total = 0
    for name in package.names:
        probe = xml.Probe() if name.endswith((".xml", ".rels")) else None
        last = b""
        for chunk in package.unpack(name):
            # A byte of zero: the part is in UTF-16, and the name cannot be looked for as it stands.
            if probe and (
                _MERGE in chunk or _MERGE in last + chunk[: len(_MERGE)] or b"\0" in chunk
            ):
                package.merging.add(name)
            last = chunk[-len(_MERGE) :]
            total += len(chunk)
            if total > MAX_TOTAL:
                raise ParseError(_TOO_LARGE)
            if probe:
                probe.feed(chunk)
        if probe:
            probe.feed(b"", last=True)
            package.roots[name] = probe.root
            if probe.damaged or (probe.deep and not xml.is_shallow(package.unpack(name))):
                package.damaged.add(name)
