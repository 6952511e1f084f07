"""CSRF tokens that also name the account a form was rendered for.

Flask-WTF signs the secret the session holds under `csrf_token`. Ours begins with the account's id,
so a token that no longer fits any session still proves that we rendered the form, and for whom.
"""

import secrets
from datetime import timedelta

from flask import current_app
from itsdangerous import BadData, URLSafeTimedSerializer

CSRF_FIELD = "csrf_token"
SALT = "wtf-csrf-token"  # Flask-WTF's
MAX_TOKEN_AGE = timedelta(days=30)  # a form that was left open over a holiday


def create_secret(account: int) -> str:
    """Return the secret that a session of this account holds under `csrf_token`."""
    return f"{account}:{secrets.token_urlsafe(32)}"


def is_our_token(token: str) -> bool:
    """Return whether we signed this token, for any session."""
    return _read_secret(token) is not None


def find_account_id(token: str) -> int | None:
    """Return the account whose form had this token.

    None when we did not sign it, or when its page needs no sign-in.
    """
    number, _, rest = (_read_secret(token) or "").partition(":")
    return int(number) if rest and number.isascii() and number.isdigit() else None


def _read_secret(token: str) -> str | None:
    # The first key signs; a form may be older than the last change of keys. The library wants the
    # newest last.
    keys = [*reversed(current_app.config["SECRET_KEY_FALLBACKS"]), current_app.secret_key]
    try:
        secret = URLSafeTimedSerializer(keys, salt=SALT).loads(
            token, max_age=int(MAX_TOKEN_AGE.total_seconds())
        )
    except BadData:
        return None
    return secret if isinstance(secret, str) else None
