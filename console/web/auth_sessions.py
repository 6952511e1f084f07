"""Server-side sessions: the cookie holds a random token, the database its data."""

import secrets
from datetime import datetime, timedelta
from typing import Any

from flask import Flask, Request, Response, g
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from sqlalchemy import delete
from werkzeug.datastructures import CallbackDict

from workflow.context import AppContext
from workflow.models.accounts import WebSession
from workflow.runtime.crypto import hash_secret

SEEN_INTERVAL = timedelta(
    seconds=60
)  # resolution of `seen_at`: not every request writes to the database
MAX_SESSION_AGE = timedelta(hours=16)  # a working day, even when it is used all the time
ACCOUNT_KEY = "_account"  # session key of the account's id
# TO_SHOW at the next page; LISTED while there are any (pages/saved_forms.py). Sessions of the
# release before have this key, too: with another one an update would hide their forms.
SAVED_FORMS_KEY = "_kept_forms"
FORMS_TO_SHOW, FORMS_LISTED = "to show", "listed"
_TAGS = TaggedJSONSerializer()


class Session(CallbackDict[str, Any], SessionMixin):
    """The data of a browser's session; knows whether it has to be written."""

    def __init__(self, initial: dict[str, Any] | None, token: str, row: WebSession | None) -> None:
        def mark_modified(session: "Session") -> None:
            session.modified = True

        super().__init__(initial, mark_modified)
        self.token, self.row = token, row
        self.modified = False
        self.new = row is None

    def renew(self) -> None:
        """Replace the token, so that one seen or planted before sign-in is worthless after it."""
        self.token, self.modified = secrets.token_urlsafe(32), True


class ServerSessions(SessionInterface):
    """Opens and saves sessions.

    They end after the idle minutes of the setting, and after 16 hours in any case.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._idle = timedelta(minutes=context.settings.idle_minutes)

    def get_cookie_name(self, app: Flask) -> str:
        """Return `__Host-session` behind TLS, else `session`.

        With that prefix no other host and no plain connection can set or read the cookie.
        """
        return "__Host-session" if self.get_cookie_secure(app) else "session"

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return whether people reach us by TLS."""
        del app
        return self._context.settings.public_url.startswith("https://")

    def open_session(self, app: Flask, request: Request) -> Session:
        """Return the session of the cookie; an empty one where it is unknown or expired."""
        token = request.cookies.get(self.get_cookie_name(app), "")
        # Static files need no session: each of a page would read the same row again.
        if token and request.endpoint != "static":
            # Only a digest is stored: who reads the database or a backup cannot sign in with it.
            with self._context.store.read_only() as session:
                row = session.get(WebSession, hash_secret(token))
            if row is not None and self._is_alive(row, self._context.clock()):
                return Session(_TAGS.loads(row.data), token, row)
        return Session(None, secrets.token_urlsafe(32), None)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write a changed session; delete an emptied one here and in the browser."""
        assert isinstance(session, Session)
        now = self._context.clock()
        if not session:
            self._delete(app, session, response)
        elif session.modified or (
            session.row
            and now - session.row.seen_at > SEEN_INTERVAL
            and not g.get("background")  # request.mark_as_background
        ):
            self._write(session, now)
            response.set_cookie(
                self.get_cookie_name(app),
                session.token,
                httponly=True,
                secure=self.get_cookie_secure(app),
                samesite="Lax",  # links in notices open signed in, forms of other sites do not
                path="/",
            )
        response.vary.add("Cookie")

    def _delete(self, app: Flask, session: Session, response: Response) -> None:
        if session.row is None:
            return
        with self._context.store.transaction() as writing:
            writing.execute(delete(WebSession).where(WebSession.key == session.row.key))
        response.delete_cookie(
            self.get_cookie_name(app),
            path="/",
            secure=self.get_cookie_secure(app),
            httponly=True,
            samesite="Lax",
        )

    def _write(self, session: Session, now: datetime) -> None:
        key, began = hash_secret(session.token), session.row.created_at if session.row else now
        with self._context.store.transaction() as writing:
            if session.row is not None and session.row.key != key:
                writing.execute(delete(WebSession).where(WebSession.key == session.row.key))
                began = now
            if session.row is None:  # delete expired ones as often as new ones are created
                writing.execute(delete(WebSession).where(WebSession.seen_at < now - self._idle))
            row = WebSession(
                key=key,
                account_id=session.get(ACCOUNT_KEY),
                data=_TAGS.dumps(dict(session)),
                created_at=began,
                seen_at=now,
            )
            writing.merge(row)

    def _is_alive(self, row: WebSession, now: datetime) -> bool:
        return now - row.seen_at < self._idle and now - row.created_at < MAX_SESSION_AGE
