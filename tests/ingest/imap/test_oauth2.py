"""Refresh tokens: a rotated one outlives a restart, sealed, and its life is reported."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from console.presenters.operations import present_status
from console.presenters.terminal import describe_token_life as in_words
from console.web import metrics
from ingest.imap.oauth2 import AccessTokens, TokenRefusedError
from ingest.imap.token_store import DatabaseTokenStore
from tests.support.context import HandClock, Steady
from tests.support.signed_in_client import sign_in_at_desk
from tests.support.token_endpoint import Endpoint
from workflow.context import AppContext
from workflow.models.states import Role
from workflow.operations import oauth_tokens
from workflow.operations.oauth_tokens import MailboxToken
from workflow.runtime.crypto import Sealer
from workflow.settings.settings import Mailbox, OAuth2

KEY = "support@pmb.example@imap.example/INBOX"
GOOD = {"access_token": "a"}


def make_mailbox(grant: OAuth2) -> Mailbox:
    return Mailbox(host="imap.example", user="support@pmb.example", oauth2=grant)


def add_mailbox(context: AppContext, grant: OAuth2, **more: object) -> AppContext:
    """A context whose settings have this mailbox."""
    return replace(
        context,
        settings=context.settings.model_copy(update={"mailbox": (make_mailbox(grant),), **more}),
    )


def open_tokens(context: AppContext, grant: OAuth2) -> AccessTokens:
    """Return tokens as a process has them that has just been started."""
    return AccessTokens(grant, DatabaseTokenStore(context, make_mailbox(grant)), now=Steady())


def list_used_tokens(endpoint: Endpoint) -> list[str]:
    return [form["refresh_token"][0] for form in endpoint.asked]


def load_token(context: AppContext) -> MailboxToken:
    with context.store.read_only() as session:
        return session.scalars(select(MailboxToken)).one()


def get_token_status(context: AppContext) -> dict[str, object]:
    found: dict[str, object] = present_status(context)["oauth"][KEY]
    return found


def list_oauth_needs(context: AppContext) -> list[str]:
    return [need for need in present_status(context)["needs"] if "OAuth" in need]


def test_a_rotated_token_is_used_after_a_restart_and_lies_sealed(
    any_context: AppContext, endpoint: Endpoint
) -> None:
    endpoint.answers = [
        (200, {**GOOD, "refresh_token": "refresh-2"}),
        (200, {**GOOD, "refresh_token": "refresh-3"}),
    ]
    grant = endpoint.grant()
    assert open_tokens(any_context, grant).get_token() == "a"
    assert open_tokens(any_context, grant).get_token() == "a"
    assert open_tokens(any_context, grant).get_token() == "a"
    assert list_used_tokens(endpoint) == ["refresh-1", "refresh-2", "refresh-3"]
    with any_context.store.read_only() as session:
        # not through the model, which would unseal
        (plain,) = session.execute(text("SELECT * FROM mailbox_grants")).all()
    assert "refresh-" not in str([bytes(v) if isinstance(v, memoryview) else v for v in plain])
    sealed = load_token(any_context).sealed
    assert sealed is not None
    assert any_context.sealer.unseal(sealed) == b"refresh-3"


def test_two_processes_use_what_the_other_was_given(
    context: AppContext, endpoint: Endpoint
) -> None:
    endpoint.answers = [
        (200, {**GOOD, "expires_in": 0, "refresh_token": f"refresh-{n}"}) for n in (2, 3, 4)
    ]
    one, other = open_tokens(context, endpoint.grant()), open_tokens(context, endpoint.grant())
    for each in (one, other, one):
        each.get_token()
    assert list_used_tokens(endpoint) == ["refresh-1", "refresh-2", "refresh-3"]


def test_another_token_in_the_settings_begins_anew(
    any_context: AppContext, endpoint: Endpoint, clock: HandClock
) -> None:
    endpoint.answers = [(200, {**GOOD, "refresh_token": "refresh-2"}), (200, GOOD)]
    old = endpoint.grant()
    open_tokens(any_context, old).get_token()
    clock.turn(days=80)
    new = OAuth2.model_validate({**old.model_dump(), "refresh_token": "fresh"})
    assert get_token_status(add_mailbox(any_context, new))["since"] is None, (
        "what is known is of another token"
    )
    open_tokens(any_context, new).get_token()
    assert list_used_tokens(endpoint) == ["refresh-1", "fresh"]
    assert get_token_status(add_mailbox(any_context, new))["days_left"] == 90
    assert load_token(any_context).sealed is None, "it stands in the settings"


def test_where_the_rotated_one_is_refused_the_first_is_tried_then_status_says_so(
    any_context: AppContext, endpoint: Endpoint, clock: HandClock
) -> None:
    no = (400, {"error": "invalid_grant"})
    endpoint.answers = [
        (200, {**GOOD, "refresh_token": "refresh-2"}),
        no,
        (200, GOOD),
        no,
        (200, GOOD),
    ]
    grant = endpoint.grant()
    here = add_mailbox(any_context, grant)
    open_tokens(here, grant).get_token()
    assert open_tokens(here, grant).get_token() == "a"
    assert list_used_tokens(endpoint) == ["refresh-1", "refresh-2", "refresh-1"]
    assert list_oauth_needs(here) == []
    with pytest.raises(TokenRefusedError):
        open_tokens(here, grant).get_token()
    assert len(endpoint.asked) == 4, "the only one there is was asked with once"
    clock.turn(days=1)
    (need,) = list_oauth_needs(here)
    assert need.startswith(f"{KEY}: its OAuth token is refused since 2026-03-02 15:00 UTC")
    assert in_words(get_token_status(here)) == "refused"
    assert "<strong>refused</strong>" in sign_in_at_desk(here, Role.AUDITOR).get("/operations").text
    open_tokens(here, grant).get_token()
    assert list_oauth_needs(here) == []


def test_one_that_never_worked_is_refused_too(any_context: AppContext, endpoint: Endpoint) -> None:
    endpoint.answers = [(401, {})]
    here = add_mailbox(any_context, endpoint.grant())
    assert in_words(get_token_status(here)) == "not used yet"
    with pytest.raises(TokenRefusedError):
        open_tokens(here, endpoint.grant()).get_token()
    assert in_words(get_token_status(here)) == "refused"


def test_a_key_that_is_gone_costs_the_rotated_token_only(
    context: AppContext, endpoint: Endpoint
) -> None:
    endpoint.answers = [(200, {**GOOD, "refresh_token": "refresh-2"}), (200, GOOD)]
    open_tokens(context, endpoint.grant()).get_token()
    open_tokens(
        replace(context, sealer=Sealer([Fernet.generate_key()])), endpoint.grant()
    ).get_token()
    assert list_used_tokens(endpoint) == ["refresh-1", "refresh-1"]


def test_what_could_not_be_remembered_is_remembered_before_anything_else(
    context: AppContext, endpoint: Endpoint
) -> None:
    class Away(DatabaseTokenStore):
        away = True

        def record_refresh(self, token: str, seconds: float | None) -> None:
            if self.away:
                raise OperationalError("", {}, Exception())
            super().record_refresh(token, seconds)

    endpoint.answers = [(200, {**GOOD, "refresh_token": "refresh-2"})]
    token_store = Away(context, make_mailbox(endpoint.grant()))
    one = AccessTokens(endpoint.grant(), token_store, now=Steady())
    with pytest.raises(OperationalError):
        one.get_token()
    token_store.away = False
    assert one.get_token() == "a"
    assert len(endpoint.asked) == 1
    assert token_store.load() == "refresh-2"


def test_days_left_run_from_the_day_a_token_was_given_and_alarm_in_time(
    any_context: AppContext, endpoint: Endpoint, clock: HandClock
) -> None:
    endpoint.answers = [(200, GOOD)]
    grant = endpoint.grant()
    here = add_mailbox(any_context, grant)
    desk = sign_in_at_desk(here, Role.AUDITOR)
    assert "not used yet" in desk.get("/operations").text
    open_tokens(here, grant).get_token()
    assert get_token_status(here)["days_left"] == 90
    clock.turn(days=60)
    open_tokens(here, grant).get_token()
    assert get_token_status(here)["days_left"] == 30, "to use it is not to be given a new one"
    clock.turn(days=16)
    assert get_token_status(here)["days_left"] == oauth_tokens.ALARM_DAYS
    assert list_oauth_needs(here) == []
    clock.turn(days=1)
    (need,) = list_oauth_needs(here)
    assert need.startswith(f"{KEY}: its OAuth token has 13 days left: consent again")
    desk = sign_in_at_desk(here, Role.LEAD, "Bea Lee")
    assert "<strong>13 days left</strong>" in desk.get("/operations").text
    assert (
        f'intake_oauth_days_left{{mailbox="{KEY}"}} 13.0'
        in metrics.render_metrics(here).decode().splitlines()
    )
    clock.turn(days=20)
    assert get_token_status(here)["days_left"] == 0
    endpoint.answers = [(200, {**GOOD, "refresh_token": "refresh-2"})]
    open_tokens(here, grant).get_token()
    assert get_token_status(here)["days_left"] == 90


@pytest.mark.parametrize(
    ("default_days", "own", "expected"),
    [(0, None, "no limit"), (30, None, "30"), (30, 7, "7"), (9, 0, "no limit")],
)
def test_the_life_of_tokens_is_a_setting_in_general_and_of_a_mailbox(
    context: AppContext, endpoint: Endpoint, default_days: float, own: float | None, expected: str
) -> None:
    endpoint.answers = [(200, GOOD)]
    grant = OAuth2.model_validate({**endpoint.grant().model_dump(), "token_days": own})
    here = add_mailbox(context, grant, oauth_days=default_days)
    open_tokens(here, grant).get_token()
    assert in_words(get_token_status(here)) == expected


def test_what_the_endpoint_itself_says_of_a_tokens_life_counts(
    context: AppContext, endpoint: Endpoint, clock: HandClock
) -> None:
    week = timedelta(days=7).total_seconds()
    endpoint.answers = [(200, {**GOOD, "refresh_token_expires_in": int(week)})]
    here = add_mailbox(context, endpoint.grant(), oauth_days=0)
    open_tokens(here, endpoint.grant()).get_token()
    assert get_token_status(here)["days_left"] == 7
    clock.turn(days=1)
    assert get_token_status(here)["days_left"] == 6
    assert len(list_oauth_needs(here)) == 1
