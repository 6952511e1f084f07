"""Encryption of bytes at rest, and signing of tokens.

Tokens stand in our links, addresses and Message-IDs.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from workflow.settings.settings import Settings, SettingsError

KEY_FILE = "secret.keys"
# hex digits: 96 bits, out of reach of guessing; an address has room for it (RFC 5321 §4.5.3.1.1)
SIGNATURE_LENGTH = 24
# Purposes of signed numbers. They stand in addresses and Message-IDs that customers have: changing
# one would orphan every mail sent before.
TICKET = "t"  # reply address of a ticket
BOUNCE = "bounce"  # return path of a mail in the outbox
OUTBOX = "outbox"  # Message-ID of a mail in the outbox


def hash_secret(secret: str) -> str:
    """Under what name the database knows a random secret (a cookie, a link, a token).

    A copy of it opens nothing.
    """
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Sealer:
    """Authenticated encryption at rest (Fernet: AES-128-CBC and HMAC-SHA256).

    The first key seals, all open.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._fernet = MultiFernet([Fernet(k) for k in keys])

    def seal(self, plain: bytes) -> bytes:
        """Encrypt; about a third larger than what went in."""
        return self._fernet.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt. Raises ValueError when no key fits or a byte was changed."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ValueError("sealed with a key we do not have, or damaged") from None


class Signer:
    """Tokens that only we can make.

    A purpose, a number and a signature, in letters any mail system leaves alone.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = [hashlib.sha256(b"support-intake signing\0" + k).digest() for k in keys]

    def make_token(self, purpose: str, number: int) -> str:
        """Make `12-<hex>`, valid for this purpose only."""
        return f"{number}-{self._sign(self._keys[0], purpose, number)}"

    def verify_token(self, purpose: str, token: str) -> int | None:
        """The number a token stands for, or None if we did not sign it for this purpose."""
        text, _, signature = token.partition("-")
        # fits a database integer
        if not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004
            return None
        number = int(text)
        signed = [self._sign(k, purpose, number) for k in self._keys]
        good = any(hmac.compare_digest(s.encode(), signature.lower().encode()) for s in signed)
        return number if good else None

    @staticmethod
    def _sign(key: bytes, purpose: str, number: int) -> str:
        return hmac.new(key, f"{purpose}:{number}".encode(), hashlib.sha256).hexdigest()[
            :SIGNATURE_LENGTH
        ]


def load_keys(settings: Settings) -> list[bytes]:
    """The keys of INTAKE_SECRET_KEYS.

    Or of a key file made in INTAKE_HOME with mode 0600 on first use.

    Raises SettingsError when one of them is not a Fernet key.
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
            os.link(new, path)  # fails if another process was first: then its key is the key
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text()
