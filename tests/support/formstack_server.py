"""A Formstack of our own on loopback: the REST API as it is documented, and as it fails."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask import Flask, Response, request
from werkzeug.serving import make_server

EASTERN = ZoneInfo("America/New_York")
WALL = "%Y-%m-%d %H:%M:%S"
FIELDS = {  # number: label, type, the answer as the API has it
    "11": ("Your Name", "name", {"first": "Pat", "last": "Doe"}),
    "12": ("Email", "email", "pat@clinic.example"),
    "13": ("Practice Name", "text", "Sunrise Clinic"),
    "14": ("Issue Type", "checkbox", ["Denial", "Other"]),
    "15": ("Message", "textarea", "A claim was denied.\nx = y, twice."),
    "16": (
        "Practice Address",
        "address",
        {"address": "1 Road", "city": "Town", "state": "IN", "zip": "12345"},
    ),
    "17": ("Phone", "phone", None),
}


def format_wall_time(moment: datetime) -> str:
    return moment.astimezone(EASTERN).strftime(WALL)


def parse_wall_time(text: str, fold: int) -> datetime:
    return datetime.strptime(text, WALL).replace(tzinfo=EASTERN, fold=fold).astimezone(UTC)


def compare_as_text(asked: str, sent: datetime) -> bool:
    """A server that keeps wall times and compares them as they stand."""
    return format_wall_time(sent) >= asked


def compare_with_first(asked: str, sent: datetime) -> bool:
    return sent >= parse_wall_time(asked, 0)


def compare_with_second(asked: str, sent: datetime) -> bool:
    return sent >= parse_wall_time(asked, 1)


@dataclass
class Submission:
    """A submission as Formstack keeps it."""

    number: str
    at: datetime
    message: str
    email: str = "pat@clinic.example"


@dataclass
class Formstack:
    """Forms, their submissions, and how the next calls are to fail."""

    url: str = ""
    token: str = "right"
    password: str = ""
    forms: dict[str, list[Submission]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    later: Callable[[str, datetime], bool] = compare_as_text
    labels: bool = True  # whether a list has them
    data: bool = True  # whether a list has the answers
    newest_first: bool = False  # whatever is asked
    answers: list[Response | None] = field(
        default_factory=list
    )  # to give first; None is none out of order
    asked: list[dict[str, str]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None  # called at each list of submissions

    def send(
        self, number: str, at: datetime, message: str = "Please help", form: str = "77"
    ) -> Submission:
        one = Submission(number, at, message)
        self.forms.setdefault(form, []).append(one)
        return one

    @property
    def pages(self) -> list[str]:
        """The page numbers asked for, in order."""
        return [
            a.get("page") or a.get("pageNumber") or ""
            for a in self.asked
            if "/submission" in a["path"]
        ]


def create_app(formstack: Formstack) -> Flask:  # noqa: C901  # two bases, four resources
    app = Flask("formstack")

    @app.before_request
    def gate() -> Response | None:
        formstack.asked.append({"path": request.path, **request.args.to_dict()})
        if formstack.answers and (fault := formstack.answers.pop(0)) is not None:
            return fault
        if request.headers.get("Authorization") != f"Bearer {formstack.token}":
            return make_json_answer(
                {"status": "error", "error": "The OAuth2 token is invalid"}, 401
            )
        password_in_request = request.headers.get("X-FS-ENCRYPTION-PASSWORD", "")
        if "submission" in request.path and password_in_request != formstack.password:
            return make_json_answer(
                {"status": "error", "error": "An error occurred while decrypting the submissions"},
                400,
            )
        return None

    @app.get("/api/v2/form.json")
    @app.get("/api/v2025/forms")
    def forms() -> Response:
        listed = [{"id": form, "name": f"Form {form}"} for form in formstack.forms]
        first = request.args.get("page") == "1" or request.args.get("pageNumber") == "1"
        return make_json_answer({"forms": listed if first else [], "total": len(listed)})

    @app.get("/api/v2/form/<form>/field.json")
    def fields(form: str) -> Response:
        del form
        return make_json_answer(
            [{"id": n, "label": label, "type": kind} for n, (label, kind, _) in FIELDS.items()]
        )

    @app.get("/api/v2025/forms/<form>")
    def dated_form(form: str) -> Response:
        fields = [
            {"id": int(n), "label": label, "type": kind} for n, (label, kind, _) in FIELDS.items()
        ]
        return make_json_answer(
            {
                "id": int(form),
                "fields": fields if request.args.get("withFields") == "true" else None,
            }
        )

    @app.get("/api/v2/form/<form>/submission.json")
    def submissions(form: str) -> Response:
        return page(form, "min_time", "page", "per_page", "sort", build_answers)

    @app.get("/api/v2025/forms/<form>/submissions")
    def dated_submissions(form: str) -> Response:
        return page(form, "minTime", "pageNumber", "pageSize", "order", build_dated_answers)

    @app.get("/api/v2/submission/<number>.json")
    def submission(number: str) -> Response:
        one = next(s for sent in formstack.forms.values() for s in sent if s.number == number)
        return make_json_answer(
            {
                "id": number,
                "timestamp": format_wall_time(one.at),
                "data": list(build_answers(one).values()),
            }
        )

    def page(
        form: str,
        since: str,
        number: str,
        size: str,
        order: str,
        shape: Callable[[Submission], Any],
    ) -> Response:
        formstack.before()
        if form in formstack.forbidden:
            return make_json_answer({"error": "You do not have access to this form"}, 403)
        if form not in formstack.forms:
            return make_json_answer({"error": "The form was not found"}, 404)
        query = request.args
        assert parse_wall_time(query[since], 0), "not a wall time"
        matches = [s for s in formstack.forms[form] if formstack.later(query[since], s.at)]
        matches.sort(
            key=lambda s: s.at, reverse=formstack.newest_first or query.get(order) != "ASC"
        )
        step = min(int(query[size]), 100)
        part = matches[(int(query[number]) - 1) * step :][:step]
        page_items = [
            {
                "id": s.number,
                "timestamp": format_wall_time(s.at),
                **({"data": shape(s)} if formstack.data else {}),
            }
            for s in part
        ]
        return make_json_answer(
            {"submissions": page_items, "total": len(matches), "pages": -(-len(matches) // step)}
        )

    def build_answers(one: Submission) -> dict[str, Any]:
        answers = {n: {"field": n, "value": value} for n, (_, _, value) in FIELDS.items()}
        answers["12"]["value"], answers["15"]["value"] = one.email, one.message
        if formstack.labels:
            for n, (label, kind, _) in FIELDS.items():
                answers[n] |= {"label": label, "type": kind}
        return answers

    def build_dated_answers(one: Submission) -> list[dict[str, Any]]:
        answers = [
            {
                "field": int(n),
                "label": label,
                "type": kind,
                "parsedValue": value,
                "displayValue": _format_value(value),
            }
            for n, (label, kind, value) in FIELDS.items()
        ]
        for nth, value in ((1, one.email), (4, one.message)):
            answers[nth] |= {"parsedValue": value, "displayValue": value}
        return answers

    return app


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(value.values())
    return "\n".join(value) if isinstance(value, list) else value or ""


def make_json_answer(content: Any, status: int = 200, **headers: str) -> Response:
    return Response(json.dumps(content), status, {"Content-Type": "application/json", **headers})


def build_webhook_body(one: Submission, form: str = "77") -> bytes:
    """Return what the webhook posts of a submission: JSON with field types (webhook-examples)."""
    body: dict[str, Any] = {"FormID": form, "UniqueID": one.number}
    for label, kind, value in FIELDS.values():
        json_answer = {"Message": one.message, "Email": one.email}.get(label, value)
        body[label] = {
            **(json_answer if isinstance(json_answer, dict) else {"value": json_answer}),
            "field_type": kind,
        }
    return json.dumps(body).encode()


@contextmanager
def run_formstack(base: str = "/api/v2") -> Iterator[Formstack]:
    formstack = Formstack()
    server = make_server("127.0.0.1", 0, create_app(formstack), threaded=True)
    formstack.url = f"http://127.0.0.1:{server.port}{base}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield formstack
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc]
