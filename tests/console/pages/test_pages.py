"""The customers' pages: behind signed links, and silent about what the ticket says."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from console.app import create_app
from tests.support.context import complete, count_rows, get_contact, make_mail, open_ticket
from workflow.context import AppContext
from workflow.mail.compose import STATUS_PURPOSE, SURVEY_PURPOSE
from workflow.models.core import OutgoingMail, SurveyAnswer
from workflow.process import Template


@pytest.fixture
def client(context: AppContext) -> FlaskClient:
    return create_app(context).test_client()


@pytest.fixture
def ticket(context: AppContext) -> int:
    return open_ticket(context, make_mail("Mrs Example's claim was denied", subject="Mrs Example"))


@pytest.fixture
def survey(context: AppContext, ticket: int) -> str:
    complete(context, ticket)
    with context.store.read_only() as session:
        sent = session.scalars(
            select(OutgoingMail).where(OutgoingMail.template == Template.SURVEY)
        ).one()
    return f"/survey/{context.signer.make_token(SURVEY_PURPOSE, sent.id)}"


def test_the_status_page_shows_number_and_stage_and_nothing_of_the_ticket(
    context: AppContext, client: FlaskClient, ticket: int
) -> None:
    answer = client.get(f"/status/{context.signer.make_token(STATUS_PURPOSE, ticket)}")
    assert answer.status_code == 200
    assert f"#{ticket}" in answer.text
    assert "1-Submitted" in answer.text
    assert "Example" not in answer.text


def test_a_link_not_signed_for_this_page_is_404(
    context: AppContext, client: FlaskClient, ticket: int
) -> None:
    signed = context.signer.make_token(STATUS_PURPOSE, ticket)
    assert (
        client.get(f"/status/{signed[:-1]}{'0' if signed[-1] != '0' else '1'}").status_code == 404
    )
    assert client.get(f"/status/{ticket}").status_code == 404
    assert (
        client.get(f"/status/{context.signer.make_token(SURVEY_PURPOSE, ticket)}").status_code
        == 404
    )
    assert client.get("/status/²-00").status_code == 404


def test_the_first_answer_of_a_survey_counts(
    context: AppContext, client: FlaskClient, survey: str
) -> None:
    assert client.get(survey).text.count('type="radio"') == 5
    assert (
        client.post(survey, data={"score": "5", "comment": "quick\x00 and kind"}).status_code == 200
    )
    assert client.post(survey, data={"score": "1"}).status_code == 200
    with context.store.read_only() as session:
        answer = session.scalars(select(SurveyAnswer)).one()
    assert (answer.score, answer.comment) == (5, "quick and kind")


@pytest.mark.parametrize("score", ["", "0", "6", "x"])
def test_a_score_out_of_range_is_refused(
    context: AppContext, client: FlaskClient, survey: str, score: str
) -> None:
    assert client.post(survey, data={"score": score}).status_code == 400
    assert count_rows(context, SurveyAnswer) == 0


def test_following_the_unsubscribe_link_changes_nothing_pressing_its_button_does(
    context: AppContext, client: FlaskClient, survey: str
) -> None:
    link = survey.replace("survey", "unsubscribe")
    client.get(link)
    assert not get_contact(context, "ann@practice.example").unsubscribed
    client.post(link)
    assert get_contact(context, "ann@practice.example").unsubscribed


def test_every_answer_forbids_scripts_and_frames(client: FlaskClient) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
