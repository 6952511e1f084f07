"""Sign-in by a real OpenID Connect issuer: who comes in, who does not, and what is not believed."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock
import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from console.web.auth_oidc import FAILED_MESSAGE, NO_ACCOUNT_MESSAGE
from tests.support.context import HandClock
from tests.support.oidc_issuer import ANN, Issuer, add_issuer, run_issuer
from tests.support.signed_in_client import Desk
from workflow.context import AppContext
from workflow.models.accounts import Account
from workflow.models.core import AuditEntry
from workflow.settings.settings import Oidc

EVE = "eve@elsewhere.example"
START, BACK = "/login/oauthstart/oidc", "/login/oauthresponse/oidc"


@pytest.fixture(scope="module")
def _issuer() -> Iterator[Issuer]:
    with run_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(_issuer: Issuer) -> Issuer:
    _issuer.called.clear()
    _issuer.paths.clear()
    _issuer.add_subject("ann", email=ANN.upper(), email_verified=True)
    _issuer.add_subject("eve", email=EVE, email_verified=True)
    return _issuer


@pytest.fixture
def there(context: AppContext, issuer: Issuer) -> AppContext:
    """A context with this issuer; Ann has an account."""
    return add_issuer(context, issuer.url)


def get_issuer_address(desk: Desk, path: str = START) -> str:
    """From the sign-in page to the issuer: the address the browser is sent to."""
    assert "Use the clinic&#39;s sign-in" in desk.get("/login").text
    page = desk.post(path)
    assert page.status_code == 200, page.headers
    address = page.headers["Refresh"].partition("url=")[2]
    assert address.replace("&", "&amp;") in page.text, "for a browser that does not go on by itself"
    return address


def get_local_part(address: str) -> str:
    """What of an address our app sees."""
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"


def walk(desk: Desk, issuer: Issuer, subject: str, path: str = START) -> TestResponse:
    return desk.get(get_local_part(issuer.sign_in(get_issuer_address(desk, path), subject)))


def is_in(desk: Desk) -> bool:
    return desk.get("/").status_code == 200


def is_refused(desk: Desk, answer: TestResponse, words: str) -> bool:
    """Sent back to the sign-in page, which says these words."""
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login")
    return words in desk.get("/login").text and not is_in(desk)


def test_whom_the_issuer_vouches_for_comes_in_as_the_person_with_that_address(
    there: AppContext, issuer: Issuer
) -> None:
    desk = Desk(there)
    before = desk.get("/login").headers["Set-Cookie"]
    answer = walk(desk, issuer, "ann")
    assert answer.headers["Location"] == "/"
    assert answer.headers["Set-Cookie"].partition(";")[0] != before.partition(";")[0], (
        "a new session"
    )
    assert "Ann Lee" in desk.get("/").text
    with there.store.read_only() as session:
        assert list(
            session.scalars(select(AuditEntry.actor).where(AuditEntry.action == "signed in"))
        ) == ["Ann Lee"]


def test_the_issuer_is_asked_for_no_more_than_the_address_and_sends_back_to_our_public_one(
    context: AppContext, issuer: Issuer
) -> None:
    behind = add_issuer(context, issuer.url, public_url="https://desk.pmb.example")
    query = {
        name: value
        for name, (value,) in parse_qs(urlsplit(get_issuer_address(Desk(behind))).query).items()
    }
    assert query["scope"] == "openid email"
    assert query["redirect_uri"] == f"https://desk.pmb.example{BACK}"
    assert query["response_type"] == "code"
    assert len(query["state"]) > 20
    assert len(query["nonce"]) > 15


def test_one_comes_to_the_page_one_wanted_and_to_no_other_site(
    there: AppContext, issuer: Issuer
) -> None:
    desk = Desk(there)
    assert walk(desk, issuer, "ann", f"{START}?next=/tasks").headers["Location"] == "/tasks"
    desk = Desk(there)
    answer = walk(desk, issuer, "ann", f"{START}?next=https://evil.example/")
    assert not answer.headers["Location"].startswith(("http", "//"))


def test_an_unknown_address_and_one_let_go_are_refused_alike(
    there: AppContext, issuer: Issuer
) -> None:
    desk = Desk(there)
    assert is_refused(desk, walk(desk, issuer, "eve"), NO_ACCOUNT_MESSAGE)
    assert EVE not in desk.get("/login").text
    with there.store.transaction() as session:
        session.execute(update(Account).values(active=False))
    desk = Desk(there)
    assert is_refused(desk, walk(desk, issuer, "ann"), NO_ACCOUNT_MESSAGE)


@pytest.mark.parametrize("verified", [False, "false", None, ["true"]])
def test_an_address_that_the_issuer_calls_unverified_is_nobodys(
    there: AppContext, issuer: Issuer, verified: object
) -> None:
    issuer.add_subject("mallory", email=ANN, email_verified=verified)
    desk = Desk(there)
    assert is_refused(desk, walk(desk, issuer, "mallory"), NO_ACCOUNT_MESSAGE)


@pytest.mark.parametrize("claims", [{"email": ANN}, {"email": ANN, "email_verified": "true"}])
def test_an_issuer_that_does_not_say_whether_it_is_verified_is_believed(
    there: AppContext, issuer: Issuer, claims: dict[str, object]
) -> None:
    issuer.add_subject("quiet", **claims)
    desk = Desk(there)
    walk(desk, issuer, "quiet")
    assert is_in(desk)


def test_an_address_that_only_the_userinfo_endpoint_tells_is_asked_for(
    there: AppContext, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bare(_self: object, user: Any, _scope: str) -> dict[str, object]:
        return {"sub": user.sub}

    monkeypatch.setattr(oidc_provider_mock._app.OpenIDCode, "generate_user_info", bare)
    desk = Desk(there)
    walk(desk, issuer, "ann")
    assert is_in(desk)
    assert "/userinfo" in issuer.paths


def test_no_address_at_all_is_nobody(there: AppContext, issuer: Issuer) -> None:
    issuer.add_subject("nameless")
    desk = Desk(there)
    assert is_refused(desk, walk(desk, issuer, "nameless"), NO_ACCOUNT_MESSAGE)


def test_what_another_browser_began_is_not_taken(there: AppContext, issuer: Issuer) -> None:
    """Else somebody could sign others in as themselves, and read what they write."""
    back = get_local_part(issuer.sign_in(get_issuer_address(Desk(there)), "ann"))
    victim = Desk(there)
    get_issuer_address(victim)
    assert is_refused(victim, victim.get(back), FAILED_MESSAGE)
    bare = Desk(there)
    assert is_refused(bare, bare.get(back), FAILED_MESSAGE)


def test_a_state_is_good_for_one_answer(there: AppContext, issuer: Issuer) -> None:
    desk = Desk(there)
    back = get_local_part(issuer.sign_in(get_issuer_address(desk), "ann"))
    desk.get(back)
    desk.post("/sign-out")
    assert is_refused(desk, desk.get(back), FAILED_MESSAGE)


def test_a_code_of_another_sign_in_has_the_wrong_nonce(there: AppContext, issuer: Issuer) -> None:
    stolen_code = parse_qs(urlsplit(issuer.sign_in(get_issuer_address(Desk(there)), "ann")).query)[
        "code"
    ][0]
    desk = Desk(there)
    mine = parse_qs(urlsplit(get_issuer_address(desk)).query)["state"][0]
    with capture_logs() as lines:
        assert is_refused(desk, desk.get(f"{BACK}?code={stolen_code}&state={mine}"), FAILED_MESSAGE)
    assert [line["event"] for line in lines] == ["single sign-on failed"]
    assert stolen_code not in str(lines)


def test_an_id_token_in_another_issuers_name_is_refused(there: AppContext, issuer: Issuer) -> None:
    issuer.called["/oauth2/token"] = "elsewhere.example"
    desk = Desk(there)
    assert is_refused(desk, walk(desk, issuer, "ann"), FAILED_MESSAGE)
    issuer.called.clear()
    walk(desk, issuer, "ann")
    assert is_in(desk)


def test_a_discovery_document_of_another_issuer_is_refused(
    there: AppContext, issuer: Issuer
) -> None:
    issuer.called["/.well-known/openid-configuration"] = "elsewhere.example"
    desk = Desk(there)
    desk.get("/login")
    assert is_refused(desk, desk.post(START), FAILED_MESSAGE)
    issuer.called.clear()
    walk(desk, issuer, "ann")
    assert is_in(desk), "once it is corrected, without a restart"


def test_what_comes_with_the_address_is_not_repeated(there: AppContext, issuer: Issuer) -> None:
    desk = Desk(there)
    state = parse_qs(urlsplit(get_issuer_address(desk)).query)["state"][0]
    answer = desk.get(
        f"{BACK}?error=Call+555-0100&error_description=your+account+is+locked&state={state}"
    )
    assert "555-0100" not in answer.text
    page = desk.get("/login").text
    assert FAILED_MESSAGE in page.replace("&#39;", "'")
    assert "555-0100" not in page
    assert issuer.paths.count("/oauth2/token") == 0


def test_an_issuer_that_is_away_costs_nobody_the_sign_in_page(context: AppContext) -> None:
    away = add_issuer(context, "http://127.0.0.1:9")
    desk = Desk(away)
    desk.get("/login")
    assert is_refused(desk, desk.post(START), FAILED_MESSAGE)
    assert desk.sign_in(ANN).status_code == 302
    assert is_in(desk)


def test_whoever_has_to_have_a_second_factor_has_to_have_it_here_too(
    context: AppContext, issuer: Issuer
) -> None:
    strict = add_issuer(context, issuer.url, second_factor=True)
    desk = Desk(strict)
    answer = walk(desk, issuer, "ann")
    assert answer.headers["Location"].startswith("/tf-setup")
    assert not is_in(desk)


def test_whoever_has_a_second_factor_is_asked_for_it(there: AppContext, issuer: Issuer) -> None:
    desk = Desk(there)
    walk(desk, issuer, "ann")
    with there.store.transaction() as session:
        secret = "JBSWY3DPEHPK3PXP"
        session.execute(update(Account).values(second_factor="authenticator", totp_secret=secret))
    other = Desk(there)
    answer = walk(other, issuer, "ann")
    assert answer.headers["Location"].startswith("/tf-validate")
    assert not is_in(other)


def test_signing_out_ends_it(there: AppContext, issuer: Issuer) -> None:
    desk = Desk(there)
    walk(desk, issuer, "ann")
    cookies = [(c.key, c.value) for c in desk.client._cookies.values()]
    desk.get("/account")
    assert desk.post("/sign-out").status_code == 302
    assert not is_in(desk)
    thief = Desk(there)
    for key, value in cookies:
        thief.client.set_cookie(key, value)
    assert not is_in(thief)


def test_an_idle_session_ends(there: AppContext, issuer: Issuer, clock: HandClock) -> None:
    desk = Desk(there)
    walk(desk, issuer, "ann")
    clock.turn(minutes=16)
    assert not is_in(desk)


def test_what_was_typed_before_the_session_ended_comes_back(
    there: AppContext, issuer: Issuer, clock: HandClock
) -> None:
    desk = Desk(there)
    walk(desk, issuer, "ann")
    assert is_in(desk)
    clock.turn(minutes=16)
    desk.post("/tickets/1/do/note", {"text": "typed before"})
    back = walk(desk, issuer, "ann").headers["Location"]
    page = desk.get(back, follow_redirects=True).text
    assert "Nothing was lost: check and send again" in page
    assert "typed before" in page


def test_it_begins_with_the_token_of_a_page_only(there: AppContext, issuer: Issuer) -> None:
    desk = Desk(there)
    desk.get("/login")
    desk.token = "x"
    assert desk.post(START).status_code == 400
    assert desk.get(START).status_code == 405
    assert issuer.paths == ["/users/ann", "/users/eve"]


@pytest.mark.parametrize(
    "issuer_url", ["http://login.example", "login.example", "http://127.0.0.1.evil.example"]
)
def test_an_issuer_in_the_clear_is_no_setting(issuer_url: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        Oidc(issuer=issuer_url, client_id="us", client_secret="s")
    assert re.match(
        "https", Oidc(issuer="https://login.example", client_id="us", client_secret="s").issuer
    )
