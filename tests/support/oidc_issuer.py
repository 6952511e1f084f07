"""A real OpenID Connect issuer on this machine, and a context whose sign-in uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import oidc_provider_mock

from tests.acceptance.browser.browser import serve
from tests.support.signed_in_client import Desk, invite
from workflow.context import AppContext
from workflow.settings.settings import Oidc

ANN = "ann@pmb.example"


@dataclass
class Issuer:
    """An issuer on this machine.

    `called` maps paths to the host it claims to be there; `paths` are those that were asked for.
    """

    app: Any
    url: str = ""
    called: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        path = environ["PATH_INFO"]
        self.paths.append(path)
        return self.app(
            {**environ, "HTTP_HOST": self.called.get(path, environ["HTTP_HOST"])}, start
        )

    def add_subject(self, subject: str, **claims: object) -> None:
        httpx.put(f"{self.url}/users/{subject}", json=claims).raise_for_status()

    def sign_in(self, address: str, subject: str) -> str:
        """Sign in at the issuer; return the address that it redirects the browser to."""
        answer = httpx.post(address, data={"sub": subject})
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]


@contextmanager
def run_issuer() -> Iterator[Issuer]:
    """Run an issuer while the block lasts."""
    issuer = Issuer(oidc_provider_mock.app(require_nonce=True))
    with serve(issuer) as issuer.url:
        yield issuer


def add_issuer(context: AppContext, url: str, **more: object) -> AppContext:
    """Return the context with this issuer; ann has an account."""
    oidc = Oidc(name="the clinic's sign-in", issuer=url, client_id="us", client_secret="s")
    made = replace(context, settings=context.settings.model_copy(update={"oidc": oidc, **more}))
    assert Desk(made).join(invite(made), "Ann Lee", ANN).status_code == 302
    return made
