"""Encryption of bytes at rest, and signed tokens for links, addresses and Message-IDs."""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from workflow.settings.settings import Settings, SettingsError

KEY_FILE = "secret.keys"
# First byte of sealed bytes. Those of Fernet are base64 text and begin with "g".
GCM_VERSION = b"\x01"
_FINGERPRINT_SIZE = 4  # bytes: finds the key among a few, and is no secret
_HEADER_SIZE = len(GCM_VERSION) + _FINGERPRINT_SIZE
_NONCE_SIZE = 12  # bytes (SP 800-38D §5.2.1.1)
# Hex digits: 96 bits cannot be guessed, and the local part of an address has room for them
# (64 octets, RFC 5321 §4.5.3.1.1).
SIGNATURE_LENGTH = 24
# Purposes of signed numbers. They stand in addresses and Message-IDs that customers have: changing
# one would orphan every mail sent before.
TICKET = "t"  # reply address of a ticket
BOUNCE = "bounce"  # return path of a mail in the outbox
OUTBOX = "outbox"  # Message-ID of a mail in the outbox


def hash_secret(secret: str) -> str:
    """Return the key under which the database knows a random secret (a cookie, link or token).

    A copy of the database therefore gives access to nothing.
    """
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Sealer:
    """Authenticated encryption at rest: AES-256-GCM (NIST SP 800-38D).

    Sealed bytes are a version byte, the fingerprint of the key, a random nonce, and the ciphertext
    with its tag: 33 bytes more than the plain ones. Version and fingerprint are authenticated too.
    The first key seals; every key opens, so that keys can be replaced one after the other. Bytes
    that release 0.1 sealed with Fernet open as well.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        derived = [_derive_key(key) for key in keys]
        self._ciphers = {_compute_fingerprint(key): AESGCM(key) for key in derived}
        self._first = _compute_fingerprint(derived[0])

    def seal(self, plain: bytes) -> bytes:
        """Encrypt bytes of any length below 2 GiB."""
        header = GCM_VERSION + self._first
        # Random nonces are safe for 2**32 messages under one key (SP 800-38D §8.3).
        nonce = os.urandom(_NONCE_SIZE)
        return header + nonce + self._ciphers[self._first].encrypt(nonce, plain, header)

    def unseal(self, ciphertext: bytes) -> bytes:
        """Decrypt.

        Raises ValueError when no key fits or a byte was changed.
        """
        try:
            if ciphertext[:1] == GCM_VERSION:
                return self._unseal_gcm(ciphertext)
            return self._fernet.decrypt(ciphertext)
        except (InvalidTag, InvalidToken, KeyError):
            raise ValueError("sealed with a key we do not have, or damaged") from None

    def _unseal_gcm(self, ciphertext: bytes) -> bytes:
        header = ciphertext[:_HEADER_SIZE]
        nonce = ciphertext[_HEADER_SIZE : _HEADER_SIZE + _NONCE_SIZE]
        if len(nonce) < _NONCE_SIZE:
            raise InvalidTag
        cipher = self._ciphers[header[len(GCM_VERSION) :]]
        return cipher.decrypt(nonce, memoryview(ciphertext)[_HEADER_SIZE + _NONCE_SIZE :], header)


def _derive_key(key: bytes) -> bytes:
    """Return the AES-256 key of a configured key, apart from the one that Fernet uses.

    A Fernet key is 32 random bytes, so that one hash derives a key.
    """
    return hashlib.sha256(b"support-intake sealing\0" + base64.urlsafe_b64decode(key)).digest()


def _compute_fingerprint(derived: bytes) -> bytes:
    return hashlib.sha256(b"support-intake key\0" + derived).digest()[:_FINGERPRINT_SIZE]


class Signer:
    """Makes and verifies signed tokens: a number and a signature, valid for one purpose.

    Tokens consist of digits, `-` and lower-case hex, which no mail system alters.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = [hashlib.sha256(b"support-intake signing\0" + k).digest() for k in keys]

    def make_token(self, purpose: str, number: int) -> str:
        """Return the token of a number, such as `12-5f3a…`, valid for this purpose only."""
        return f"{number}-{self._sign(self._keys[0], purpose, number)}"

    def verify_token(self, purpose: str, token: str) -> int | None:
        """Return the number of a token, or None if we did not sign it for this purpose."""
        digits, _, signature = token.partition("-")
        # Up to 18 digits fit into a database integer (2**63 has 19).
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):  # noqa: PLR2004
            return None
        number = int(digits)
        candidates = [self._sign(key, purpose, number) for key in self._keys]
        presented = signature.lower().encode()
        is_ours = any(hmac.compare_digest(one.encode(), presented) for one in candidates)
        return number if is_ours else None

    @staticmethod
    def _sign(key: bytes, purpose: str, number: int) -> str:
        signature = hmac.new(key, f"{purpose}:{number}".encode(), hashlib.sha256)
        return signature.hexdigest()[:SIGNATURE_LENGTH]


def load_keys(settings: Settings) -> list[bytes]:
    """Return the keys of INTAKE_SECRET_KEYS, or else of the key file in INTAKE_HOME.

    The key file is created on first use, with mode 0600. Raises SettingsError when a key is not a
    Fernet key.
    """
    text = settings.secret_keys.get_secret_value() or _read_or_make_key_file(
        settings.home / KEY_FILE
    )
    keys = [k.encode() for k in text.replace(",", " ").split()]
    try:
        Sealer(keys)
    except ValueError:
        raise SettingsError(
            "INTAKE_SECRET_KEYS: expected url-safe base64 of 32 bytes, several by space"
        ) from None
    return keys


def _read_or_make_key_file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{KEY_FILE}.{os.getpid()}.{os.urandom(4).hex()}.new")
    if not path.exists():
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(Fernet.generate_key().decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(new, path)  # fails when another process was first: then its key counts
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text()
