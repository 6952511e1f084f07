"""A signed-in person at the desk, through the app as a browser would use it."""

import re
import tempfile
from functools import cache
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from sqlalchemy import select
from werkzeug.test import TestResponse

from console.app import create_app
from workflow.accounts import invitations
from workflow.context import AppContext
from workflow.models.core import Staff
from workflow.models.states import Role

PASSWORD = "a few plain words"
_TOKEN = re.compile(r'name="csrf_token"[^>]* value="([^"]+)"')
# Elements whose line breaks are part of the page.
_PREFORMATTED = re.compile(
    r'(?<=>)[^<>]*</(?:textarea|pre)>|<(\w+) [^>]*class="[^"]*plain-text[^"]*"[^>]*>.*?</\1>',
    re.DOTALL,
)
_TAG = re.compile(r"<[^<>]+>")


def join_lines(page: str) -> str:
    """Return a page without the line breaks of its template, so that tests can search it.

    Attributes are parted by one space, elements by nothing; text that is shown with its line
    breaks keeps them.
    """
    parts, end = [], 0
    for kept in _PREFORMATTED.finditer(page):
        parts += [_join(page[end : kept.start()]), kept[0]]
        end = kept.end()
    return "".join([*parts, _join(page[end:])])


def _join(markup: str) -> str:
    markup = _TAG.sub(lambda tag: re.sub(r"\s+>$", ">", re.sub(r"\s*\n\s*", " ", tag[0])), markup)
    markup = re.sub(r">\s*\n\s*<", "><", markup)
    markup = re.sub(r"(<(?:a|dd|td|th|li|p|h\d|summary|button|option)\b[^>]*>)\s+", r"\1", markup)
    markup = re.sub(r"\s+(</(?:dd|td|th|li|p|h\d|summary|button|option)>)", r"\1", markup)
    return re.sub(r"\s*\n\s*", " ", markup)


def build_app(context: AppContext) -> Flask:
    """Return a console app over a context.

    Hashing a password costs 140 ms on purpose and compiling the templates 200 ms once a process:
    a test that makes its own app would spend most of its time on these two.
    """
    app = create_app(context)
    app.jinja_env.bytecode_cache = _make_template_cache()
    security = app.extensions["security"]
    security.pwd_context = security.pwd_context.copy(
        argon2__time_cost=1, argon2__memory_cost=8, argon2__parallelism=1
    )
    return app


@cache
def _make_template_cache() -> FileSystemBytecodeCache:
    """Return the cache of this test process. Its files are in a folder that ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="intake-templates-")
    cache_of_files = FileSystemBytecodeCache(folder.name)
    # The folder is removed with the object that made it.
    cache_of_files.folder = folder  # type: ignore[attr-defined]
    return cache_of_files


class Desk:
    """A browser's session; `post` carries the CSRF token of the page that was seen last."""

    def __init__(self, context: AppContext, client: FlaskClient | None = None) -> None:
        self.context = context
        self.client = client or build_app(context).test_client()
        self.token = ""

    def get(self, path: str, **more: Any) -> TestResponse:
        return self._remember_token(self.client.get(path, **more))

    def post(self, path: str, data: dict[str, Any] | None = None, **more: Any) -> TestResponse:
        return self._remember_token(
            self.client.post(path, data={"csrf_token": self.token, **(data or {})}, **more)
        )

    def join(self, token: str, name: str, email: str) -> TestResponse:
        self.get(f"/join/{token}")
        return self.post(
            f"/join/{token}",
            {"name": name, "email": email, "password": PASSWORD, "again": PASSWORD},
        )

    def sign_in(self, email: str, password: str = PASSWORD) -> TestResponse:
        self.get("/login")
        return self.post("/login", {"email": email, "password": password})

    def _remember_token(self, answer: TestResponse) -> TestResponse:
        if answer.mimetype == "text/html":
            # Not `answer.text`, which would be remembered as it was.
            answer.set_data(join_lines(answer.get_data(as_text=True)))
            if found := _TOKEN.search(answer.text):
                self.token = found[1]
        return answer


def invite(
    context: AppContext, name: str = "Ann Lee", role: Role = Role.AGENT, email: str = ""
) -> str:
    """Return the token of an invitation for this person.

    The person joins the staff unless somebody has this name already.
    """
    with context.store.transaction() as session:
        person = session.scalar(select(Staff).where(Staff.name == name))
        if person is None:
            person = Staff(name=name, email=email, role=role, created_at=context.clock())
            session.add(person)
            session.flush()
        return invitations.create_invitation(session, person, role, by="test", now=context.clock())


def sign_in_at_desk(context: AppContext, role: Role = Role.AGENT, name: str = "Ann Lee") -> Desk:
    """Return the session of a new person of this role, signed in."""
    desk, email = Desk(context), f"{name.split(maxsplit=1)[0].casefold()}@pmb.example"
    assert desk.join(invite(context, name, role), name, email).status_code == 302
    assert desk.sign_in(email).status_code == 302
    assert desk.get("/").status_code == 200
    return desk
