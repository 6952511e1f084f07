"""An OLE compound file: an old workbook, a locked one or something else.

What is locked is unlocked in memory.
"""

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

_DEFAULT = "VelvetSweatshop"  # what Excel itself tries before it asks (MS-OFFCRYPTO §2.4.1)
_MOST_TRIED = 8
_LONGEST_PASSWORD = 255
_BLOCK = 1024  # bytes between two keys of RC4 in a workbook (MS-XLS §2.2.10)
_FILE_PASS, _BOUND_SHEET = 0x2F, 0x85
_PLAIN = {
    0x809,
    _FILE_PASS,
    0x194,
    0x195,
    0xE1,
    0x138,
    0x196,
}  # records never encrypted (MS-XLS §2.2.10)

# What olefile and msoffcrypto let out where a file is not what it says: they check little before
# they unpack.
_ODD = (
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
    """The workbook in a compound file.

    The zip of a locked .xlsx or .xlsb, or the stream of records of an .xls.

    Raises ParseError where it is locked and no password fits, where it is no workbook, or too
    damaged to tell.
    """
    try:
        file = olefile.OleFileIO(BytesIO(raw))
        names = {"/".join(path).casefold() for path in file.listdir(storages=False)}
        if "encryptedpackage" in names:
            _check_description(file.openstream("EncryptionInfo").read())
            return _unlocked_package(raw, passwords)
        stream = file.openstream("Workbook").read() if "workbook" in names else b""
    except _ODD as error:
        raise error if isinstance(error, ParseError) else ParseError(_what_else(raw)) from error
    if not stream:
        raise ParseError(_what_kind(names))
    return _unlocked_stream(raw, stream, passwords) if _is_locked(stream) else stream


def _what_else(raw: bytes) -> str:
    return LOCKED if "EncryptedPackage".encode("utf-16-le") in raw else detect.OLD_FORMAT


def _what_kind(names: set[str]) -> str:
    if "worddocument" in names:
        return "a Word document: save the messages as an Excel workbook (.xlsx)"
    if any(name.startswith("__substg1.0") for name in names):
        return "an Outlook message: save the workbook attached to it, or forward the mail"
    return detect.OLD_FORMAT


def _check_description(told: bytes) -> None:
    """Refuse a document type before msoffcrypto's own reader of XML meets it."""
    if told[:4] == b"\x04\x00\x04\x00":
        xml.Feed().whole([told[8:]])


def _tries(passwords: Sequence[str]) -> list[str]:
    return [
        one for one in (*passwords[:_MOST_TRIED], _DEFAULT) if 0 < len(one) <= _LONGEST_PASSWORD
    ]


def _unlocked_package(raw: bytes, passwords: Sequence[str]) -> bytes:
    for password in _tries(passwords):
        out = BytesIO()
        try:
            locked = OOXMLFile(BytesIO(raw))
            locked.load_key(password=password, verify_password=True)
            locked.decrypt(out)
        except exceptions.InvalidKeyError:
            continue
        except _ODD as error:
            raise ParseError(UNKNOWN_LOCK) from error
        return out.getvalue()
    raise ParseError(NOT_UNLOCKED if passwords else LOCKED)


def _is_locked(stream: bytes) -> bool:
    """Whether a record before the first sheet says so.

    It stands second where it stands at all, give or take a few.
    """
    return any(kind == _FILE_PASS for kind, _, _ in binary_records.records(stream, 0, whole=False))


def _unlocked_stream(raw: bytes, stream: bytes, passwords: Sequence[str]) -> bytes:
    """The records of a locked .xls in clear.

    Msoffcrypto would write them to a temporary file, and byte by byte.
    """
    for password in _tries(passwords):
        try:
            locked = Xls97File(BytesIO(raw))
            locked.load_key(password=password)
            return _decrypted(locked, stream)
        except exceptions.InvalidKeyError:
            continue
        except _ODD as error:
            raise ParseError(UNKNOWN_LOCK) from error
    raise ParseError(NOT_UNLOCKED if passwords else LOCKED)


def _decrypted(locked: Xls97File, stream: bytes) -> bytes:
    """Decrypt all as one, then put back what was never encrypted.

    Headers, a few records, the places of sheets.
    """
    if locked.type == "rc4":
        clear = DocumentRC4.decrypt(locked.key, locked.salt, BytesIO(stream), _BLOCK).read()
    elif locked.type == "rc4_cryptoapi":
        clear = DocumentRC4CryptoAPI.decrypt(
            locked.key, locked.salt, locked.keySize, BytesIO(stream), _BLOCK
        ).read()
    else:
        raise exceptions.DecryptionError
    out = bytearray(clear)
    end = 0
    for kind, start, end in binary_records.records(stream, 0):
        plain = end if kind in _PLAIN else start + 4 if kind == _BOUND_SHEET else start
        out[start - 4 : plain] = stream[start - 4 : plain]
        if kind == _FILE_PASS:
            out[start - 4 : start - 2] = (
                b"\0\0"  # no record of ours: what is in clear must not say it is locked
            )
    out[end:] = stream[end:]
    return bytes(out)
