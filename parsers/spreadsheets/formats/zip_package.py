"""Reader of a zip of parts, as .xlsx, .xlsb and .ods are, within limits.

Sizes are counted while it is unpacked: those that it states are not believed.
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
MAX_RATIO = 250  # unpacked to packed; sheets reach 10 to 60, only a bomb more
_SMALL = 4 * 2**20  # below this no ratio is dangerous
_CHUNK = 2**16
_MERGE = b"mergeCell"
_TOO_LARGE = "a workbook that unpacks to far more than it may: export fewer messages"
_ENCRYPTED = 1  # bit of a zip entry's flags
# Types of relationships whose target has to be in the package.
_INSIDE = {"worksheet", "officeDocument", "sharedStrings", "styles"}

LINK = ("https://", "http://", "mailto:")  # beginnings of an address that a person may be led to

# Id of a relationship -> the last word of its type, and its target.
Relationships = dict[str, tuple[str, str]]


@dataclass(slots=True)
class Package:
    """An opened zip whose parts have all been unpacked once, to check them.

    Part names are in lower case, as they ignore case (OPC §6.2): those of `names`, of `roots`, the
    root elements of XML parts, of `damaged_parts`, which are not well-formed, and of `merging`.
    """

    archive: zipfile.ZipFile = field(repr=False)
    packed_size: int  # bytes of the file: no entry can be larger, whatever it says
    names: dict[str, zipfile.ZipInfo] = field(repr=False)
    roots: dict[str, str] = field(default_factory=dict, repr=False)
    damaged_parts: set[str] = field(default_factory=set, repr=False)
    merging: set[str] = field(default_factory=set, repr=False)  # parts that may name merged cells

    def unpack(self, name: str) -> Iterator[bytes]:
        """Yield the content of a part piece by piece.

        Raises ParseError when it is missing, damaged or larger than it may be.
        """
        info = self.names.get(name.casefold())
        if info is None:
            raise ParseError(DAMAGED)
        packed = min(info.compress_size, self.packed_size)
        most = min(MAX_PART, max(_SMALL, MAX_RATIO * packed))
        size = 0
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

    def list_elements(self, name: str) -> list[xml.Element]:
        """Return all elements of a small part."""
        return xml.list_elements(self.unpack(name))

    def get_root(self, name: str) -> str:
        """Return the name of the root element of a part, "" where it is no XML.

        Raises ParseError when the part is missing or not well-formed.
        """
        key = name.casefold()
        if key not in self.names or key in self.damaged_parts:
            raise ParseError(DAMAGED)
        return self.roots.get(key, "")

    def get_main_part(self, usual: str) -> str:
        """Return the name of the part with the workbook itself, `usual` where none is named.

        Raises ParseError when it is missing or not well-formed.
        """
        relationships = self.list_relationships("").values()
        named = [target for kind, target in relationships if kind == "officeDocument"]
        main = named[0] if named else usual
        self.get_root(main)
        return main

    def list_relationships(self, part: str) -> Relationships:
        """Return the relationships of a part (OPC §9.3); "" is the package itself.

        Targets are part names, or addresses outside of the package. The types of transitional and
        strict workbooks end alike. Raises ParseError where a sheet is kept outside.
        """
        folder, _, name = part.rpartition("/")
        rels = f"{folder}/_rels/{name}.rels".removeprefix("/")
        if rels.casefold() not in self.names:
            return {}
        relationships: Relationships = {}
        for _, tag, attrs in self.list_elements(rels):
            if tag != "Relationship":
                continue
            kind, target = attrs.get("Type", "").rpartition("/")[2], attrs.get("Target", "")
            if attrs.get("TargetMode") != "External":
                target = _resolve(f"/{folder}/" if folder else "/", target)
            elif kind in _INSIDE:
                raise ParseError(
                    "a workbook whose sheets are kept elsewhere: copy the messages into one"
                    " workbook"
                )
            relationships[attrs.get("Id", "")] = (kind, target)
        return relationships

    def list_links(self, part: str) -> dict[str, str]:
        """Return the web and mail addresses that cells of a sheet lead to, by relationship id."""
        return {
            key: target
            for key, (kind, target) in self.list_relationships(part).items()
            if kind == "hyperlink" and target.startswith(LINK)
        }


def _resolve(base: str, target: str) -> str:
    """Return the part name that a relationship's target stands for, seen from a folder."""
    try:
        return urljoin(base, target.replace("\\", "/")).removeprefix("/")
    except ValueError as error:  # no address, as //[
        raise ParseError(DAMAGED) from error


def open_package(raw: bytes) -> Package:
    """Open a zip from its bytes, and check all its parts.

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
    methods = {info.compress_type for info in names.values()}
    if not methods <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ParseError(DAMAGED)
    package = Package(archive, len(raw), names)
    _check_parts(package)
    return package


def _check_parts(package: Package) -> None:
    """Unpack every part once, and note its root, damage and merged cells in the package.

    Raises ParseError where they are too large together, or any XML part has a document type,
    whether it is read later or not.
    """
    total = 0
    for name in package.names:
        probe = xml.Probe() if name.endswith((".xml", ".rels")) else None
        last = b""
        for chunk in package.unpack(name):
            total += len(chunk)
            if total > MAX_TOTAL:
                raise ParseError(_TOO_LARGE)
            if probe is None:
                continue
            if _may_merge(last, chunk):
                package.merging.add(name)
            last = chunk[-len(_MERGE) :]
            probe.feed(chunk)
        if probe is not None:
            _end_probe(package, name, probe)


def _may_merge(last: bytes, chunk: bytes) -> bool:
    """Return whether a piece of XML may name merged cells; `last` is the end of the one before.

    A byte of zero means UTF-16, in which the name cannot be searched for as it stands.
    """
    return _MERGE in chunk or _MERGE in last + chunk[: len(_MERGE)] or b"\0" in chunk


def _end_probe(package: Package, name: str, probe: xml.Probe) -> None:
    """Note the root of an XML part, and whether it is damaged or nested too deep."""
    probe.feed(b"", last=True)
    package.roots[name] = probe.root
    if probe.is_damaged or (probe.deep and not xml.is_shallow(package.unpack(name))):
        package.damaged_parts.add(name)
