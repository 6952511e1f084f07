"""Signatures of webhook calls: HMAC keys and HandshakeKeys, common ones and those of a form."""

import hmac
from hashlib import sha256

from werkzeug.datastructures import Headers

from parsers.formstack.submission import Envelope
from workflow.settings.forms import DEFAULT_SIGNATURE_HEADER
from workflow.settings.settings import Settings


class SignatureKeys:
    """Keys of the settings, prepared once.

    They are checked for each request, signed or not.
    """

    def __init__(self, settings: Settings) -> None:
        self._common = settings.formstack_keys
        self._forms = settings.form
        of_forms = (key for form in self._forms.values() for key in form.list_keys(()))
        self._every = tuple(dict.fromkeys((*self._common, *of_forms)))
        self._headers = tuple(
            {DEFAULT_SIGNATURE_HEADER: 1, **{form.header: 1 for form in self._forms.values()}}
        )

    def __bool__(self) -> bool:
        """Return whether anything can be verified at all."""
        return bool(self._every)

    def has_signature(self, headers: Headers) -> bool:
        """Return whether a call carries any signature, also a wrong one."""
        return any(headers.get(name) for name in self._headers)

    def find_signing_keys(self, headers: Headers, raw: bytes) -> tuple[str, ...]:
        """Return the keys that these bytes are signed with; () for none."""
        values = [value for name in self._headers if (value := headers.get(name))]
        return tuple(
            key for key in self._every if any(_matches(raw, key, value) for value in values)
        )

    def may_submit(self, envelope: Envelope, signed_with: tuple[str, ...]) -> bool:
        """Return whether a call signed with these keys may submit this form.

        A form of the settings has to be signed with a key of its own, and to carry its HandshakeKey
        if it has one. For any other form each of our keys will do: a form that is copied at
        Formstack takes the key of its webhook along, and its submissions come from customers all
        the same.
        """
        form = self._forms.get(envelope.form)
        if form is None:
            return True
        if not set(form.list_keys(self._common)) & set(signed_with):
            return False
        return not form.handshakes or any(
            _is_same(valid, given) for valid in form.handshakes for given in envelope.secrets
        )


def _matches(raw: bytes, key: str, given: str) -> bool:
    """Return whether a header holds this key's signature. The prefix may be left out."""
    expected = hmac.digest(key.encode(), raw, sha256).hex()
    return _is_same(expected, given.strip().lower().removeprefix("sha256="))


def _is_same(expected: str, signature: str) -> bool:
    # As bytes: text outside ASCII would raise.
    """Compare in constant time."""
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
