"""Who may hand in which form.

HMAC keys and HandshakeKeys, the common ones and those of a form, old and new.
"""

import hmac
from hashlib import sha256

from werkzeug.datastructures import Headers

from parsers.formstack.submission import Envelope
from workflow.settings.forms import DEFAULT_SIGNATURE_HEADER
from workflow.settings.settings import Settings


class SignatureKeys:
    """Every key of the settings, made ready once: this is asked for each request, signed or not."""

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

    def find_signing_keys(self, headers: Headers, raw: bytes) -> tuple[str, ...]:
        """The keys that these bytes are signed with, by whichever of our headers.

        None = by nobody we know.
        """
        given = [value for name in self._headers if (value := headers.get(name))]
        return tuple(
            key for key in self._every if any(_matches(raw, key, value) for value in given)
        )

    def may_submit(self, said: Envelope, signed_with: tuple[str, ...]) -> bool:
        """Whether a form of the settings was signed with a key of its own.

        And carries its HandshakeKey if it has one.

        Any key of ours will do for a form that is not in the settings: a form that is copied at
        Formstack takes the key of its webhook along, and what comes from it is a customer's all the
        same.
        """
        form = self._forms.get(said.form)
        if form is None:
            return True
        if not set(form.list_keys(self._common)) & set(signed_with):
            return False
        return not form.handshakes or any(
            _same(valid, told) for valid in form.handshakes for told in said.secrets
        )


def _matches(raw: bytes, key: str, given: str) -> bool:
    """Compare in constant time. The prefix may be left out."""
    expected = hmac.digest(key.encode(), raw, sha256).hex()
    return _same(expected, given.strip().lower().removeprefix("sha256="))


def _same(expected: str, said: str) -> bool:
    # As bytes: text outside ASCII would raise.
    return hmac.compare_digest(expected.encode(), said.encode(errors="replace"))
