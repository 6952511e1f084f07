"""Encryption of bytes at rest, and signed tokens for links, addresses and Message-IDs."""

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from workflow.settings.settings import Settings, SettingsError

KEY_FILE = "secret.keys"
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
    """Authenticated encryption at rest (Fernet: AES-128-CBC and HMAC-SHA256).

    The first key encrypts; every key decrypts, so that keys can be replaced one after the other.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._fernet = MultiFernet([Fernet(k) for k in keys])

    def seal(self, plain: bytes) -> bytes:
        """Encrypt; the result is about a third larger than `plain`."""
        return self._fernet.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt.

        Raises ValueError when no key fits or a byte was changed.
        """
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ValueError("sealed with a key we do not have, or damaged") from None


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
    text = settings.secret_keys.get_secret_value() or _key_file(settings.home / KEY_FILE)
    keys = [k.encode() for k in text.replace(",", " ").split()]
    try:
        Sealer(keys)
    except ValueError:
        raise SettingsError(
            "INTAKE_SECRET_KEYS: expected url-safe base64 of 32 bytes, several by space"
        ) from None
    return keys


def _key_file(path: Path) -> str:
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
