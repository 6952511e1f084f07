"""Reader of OLE compound files: old workbooks, and locked ones, which are unlocked in memory."""

import struct
from collections.abc import Sequence
from io import BytesIO
from xml.parsers.expat import ExpatError

import olefile
from msoffcrypto import exceptions
from msoffcrypto.format.ooxml import OOXMLFile
from msoffcrypto.format.xls97 import Xls97File
from msoffcrypto.method.rc4 import DocumentRC4
from msoffcrypto.method.rc4_cryptoapi import DocumentRC4CryptoAPI

from parsers.item import ParseError
from parsers.spreadsheets.formats import binary_records, detect, xml

LOCKED = (
    "a password-protected workbook: save it without a password, or have INTAKE_WORKBOOK_PASSWORD"
    " set to it"
)
NOT_UNLOCKED = (
    "a password-protected workbook that the password set does not open: save it without one, or"
    " correct it"
)
UNKNOWN_LOCK = "a workbook protected in a way we do not read: save it without a password"

# Excel itself tries this password before it asks for one (MS-OFFCRYPTO §2.4.1).
_DEFAULT_PASSWORD = "VelvetSweatshop"  # noqa: S105 - everybody's
_MAX_PASSWORDS = 8
_MAX_PASSWORD_LENGTH = 255
_AGILE = b"\x04\x00\x04\x00"  # version of a description of encryption that goes on in XML
_BLOCK = 1024  # bytes between two keys of RC4 in a workbook (MS-XLS §2.2.10)
_FILE_PASS = 0x2F
_BOUND_SHEET = 0x85
# Kinds of records that are never encrypted (MS-XLS §2.2.10).
_NEVER_ENCRYPTED = {0x809, _FILE_PASS, 0x194, 0x195, 0xE1, 0x138, 0x196}

# Errors that olefile and msoffcrypto let out for a damaged file: they check little before they
# unpack.
_DAMAGE_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ArithmeticError,
    RecursionError,
    struct.error,
    ExpatError,
    exceptions.FileFormatError,
    exceptions.ParseError,
    exceptions.DecryptionError,
    exceptions.EncryptionError,
)


def open_container(raw: bytes, passwords: Sequence[str]) -> bytes:
    """Return the workbook in a compound file.

    It is the zip of a locked .xlsx or .xlsb, or the stream of records of an .xls. Raises ParseError
    where it is locked and no password fits, where it is no workbook, or is damaged.
    """
    try:
        file = olefile.OleFileIO(BytesIO(raw))
        names = {"/".join(path).casefold() for path in file.listdir(storages=False)}
        if "encryptedpackage" in names:
            _check_encryption_info(file.openstream("EncryptionInfo").read())
            return _unlock_package(raw, passwords)
        stream = file.openstream("Workbook").read() if "workbook" in names else b""
    except _DAMAGE_ERRORS as error:
        raise error if isinstance(error, ParseError) else ParseError(_explain(raw)) from error
    if not stream:
        raise ParseError(_explain_other(names))
    return _unlock_stream(raw, stream, passwords) if _is_locked(stream) else stream


def _explain(raw: bytes) -> str:
    """Return the message about a damaged compound file."""
    return LOCKED if "EncryptedPackage".encode("utf-16-le") in raw else detect.OLD_FORMAT


def _explain_other(names: set[str]) -> str:
    """Return the message about a compound file with streams of these names, but no workbook."""
    if "worddocument" in names:
        return "a Word document: save the messages as an Excel workbook (.xlsx)"
    if any(name.startswith("__substg1.0") for name in names):
        return "an Outlook message: save the workbook attached to it, or forward the mail"
    return detect.OLD_FORMAT


def _check_encryption_info(info: bytes) -> None:
    """Raise ParseError for a document type, before msoffcrypto's own parser of XML meets it."""
    if info.startswith(_AGILE):
        xml.Feed().parse_all([info[8:]])


def _list_passwords(passwords: Sequence[str]) -> list[str]:
    """Return the passwords to try: of those given the first 8, and Excel's own."""
    candidates = (*passwords[:_MAX_PASSWORDS], _DEFAULT_PASSWORD)
    return [one for one in candidates if 0 < len(one) <= _MAX_PASSWORD_LENGTH]


def _unlock_package(raw: bytes, passwords: Sequence[str]) -> bytes:
    """Return the zip of a locked workbook. Raises ParseError where no password fits."""
    for password in _list_passwords(passwords):
        out = BytesIO()
        try:
            locked = OOXMLFile(BytesIO(raw))
            locked.load_key(password=password, verify_password=True)
            locked.decrypt(out)
        except exceptions.InvalidKeyError:
            continue
        except _DAMAGE_ERRORS as error:
            raise ParseError(UNKNOWN_LOCK) from error
        return out.getvalue()
    raise ParseError(NOT_UNLOCKED if passwords else LOCKED)


def _is_locked(stream: bytes) -> bool:
    """Return whether a record before the first sheet marks a stream as encrypted.

    It is the second one in a locked workbook, give or take a few.
    """
    records = binary_records.iter_records(stream, 0, whole=False)
    return any(kind == _FILE_PASS for kind, _, _ in records)


def _unlock_stream(raw: bytes, stream: bytes, passwords: Sequence[str]) -> bytes:
    """Return the records of a locked .xls in clear. Raises ParseError where no password fits.

    msoffcrypto itself would write them to a temporary file, and byte by byte.
    """
    for password in _list_passwords(passwords):
        try:
            locked = Xls97File(BytesIO(raw))
            locked.load_key(password=password)
            return _decrypt(locked, stream)
        except exceptions.InvalidKeyError:
            continue
        except _DAMAGE_ERRORS as error:
            raise ParseError(UNKNOWN_LOCK) from error
    raise ParseError(NOT_UNLOCKED if passwords else LOCKED)


def _decrypt(encrypted_file: Xls97File, stream: bytes) -> bytes:
    """Return a stream decrypted, with the parts that were never encrypted as they are.

    Those are the heads of records, a few whole records, and the places of sheets.
    """
    if encrypted_file.type == "rc4":
        clear = DocumentRC4.decrypt(
            encrypted_file.key, encrypted_file.salt, BytesIO(stream), _BLOCK
        ).read()
    elif encrypted_file.type == "rc4_cryptoapi":
        clear = DocumentRC4CryptoAPI.decrypt(
            encrypted_file.key, encrypted_file.salt, encrypted_file.keySize, BytesIO(stream), _BLOCK
        ).read()
    else:
        raise exceptions.DecryptionError
    out = bytearray(clear)
    end = 0
    for kind, start, end in binary_records.iter_records(stream, 0):
        plain_end = start
        if kind in _NEVER_ENCRYPTED:
            plain_end = end
        elif kind == _BOUND_SHEET:  # the place of a sheet stands in its first four bytes
            plain_end = start + 4
        out[start - 4 : plain_end] = stream[start - 4 : plain_end]
        if kind == _FILE_PASS:  # no stream in clear may be marked as encrypted
            out[start - 4 : start - 2] = b"\0\0"
    out[end:] = stream[end:]
    return bytes(out)
