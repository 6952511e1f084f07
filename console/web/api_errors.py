"""Error responses of the API: a status, a code for programs and a sentence for people.

Nothing internal is in them.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify
from werkzeug.exceptions import HTTPException

from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.errors import (
    AcrossCompanies,
    ActionNotAllowed,
    NotPermitted,
    SeemsPatientData,
    VersionMismatch,
)
from workflow.runtime import log

ERROR_TEXTS = {
    400: ("malformed", "The request could not be understood."),
    401: ("token", "Send a valid token: Authorization: Bearer intake_…"),
    403: ("scope", "This token may not do that."),
    404: ("not-found", "Nothing was found at this address."),
    405: ("method", "This address takes another method."),
    406: ("accept", "The answer is JSON."),
    409: ("conflict", "This cannot be done in the current state."),
    412: ("changed", "It has changed since you read it."),
    413: ("too-large", "The request is too large."),
    415: ("content-type", "Send JSON, as application/json."),
    422: ("invalid", "A value is not valid: see fields."),
    429: ("too-often", "Too many calls: wait for the seconds in Retry-After."),
    500: ("ours", "Something went wrong on our side."),
    503: ("away", "The database does not answer: try again."),
}
RETRY_SECONDS = "5"
# What a person has to confirm, and the field of the request that does.
CONFIRMED_BY: dict[type[Exception], str] = {
    AcrossCompanies: "across_companies",
    SeemsPatientData: "checked",
}
# Headers that clients act on; the others describe the HTML body that werkzeug would send.
KEPT_HEADERS = frozenset({"Allow", "Retry-After", "Location"})


class ApiError(Exception):  # named after the response; no fault of the program
    """A call that is refused: status, sentence, errors by field, and headers of the response."""

    def __init__(
        self,
        code: int,
        detail: str = "",
        *,
        fields: Mapping[str, Any] | None = None,
        **headers: str,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.fields = code, detail, fields
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def build_error_response(error: Exception) -> Response:
    """Return the response for an exception."""
    if isinstance(error, ApiError):
        return _respond(error.code, error.detail, error.fields, error.headers)
    if (field := CONFIRMED_BY.get(type(error))) is not None:
        how = f"Send {field} = true to confirm it."
        return _respond(HTTPStatus.CONFLICT, f"{error}. {how}", {field: [how]})
    if isinstance(error, NotPermitted):
        return _respond(HTTPStatus.FORBIDDEN, str(error))
    if isinstance(error, VersionMismatch):
        return _respond(HTTPStatus.PRECONDITION_FAILED)
    if isinstance(error, ActionNotAllowed):
        return _respond(HTTPStatus.CONFLICT, str(error))
    if isinstance(error, HTTPException) and (error.code or 500) < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _respond_to_http_error(error)
    log.fault("api", error)
    if isinstance(error, DATABASE_UNAVAILABLE):
        return _respond(HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": RETRY_SECONDS})
    return _respond(HTTPStatus.INTERNAL_SERVER_ERROR)


def _respond_to_http_error(error: HTTPException) -> Response:
    """Return the response for an error of the request, with the headers clients act on."""
    headers = {name: value for name, value in error.get_headers() if name in KEPT_HEADERS}
    return _respond(
        error.code or HTTPStatus.BAD_REQUEST, fields=_list_field_errors(error), headers=headers
    )


def _respond(
    code: int,
    detail: str = "",
    fields: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    error_code, text = ERROR_TEXTS.get(code, ("no", HTTPStatus(code).phrase))
    body: dict[str, Any] = {"error": error_code, "detail": detail or text}
    if fields:
        body["fields"] = dict(fields)
    response = jsonify(body)
    response.status_code = code
    response.headers.update(headers or {})
    return response


def _list_field_errors(error: HTTPException) -> dict[str, Any] | None:
    """Return the errors by field, as the argument parser found them."""
    messages = getattr(error, "data", {}).get("messages", {})
    return {
        str(name): errors
        for location in messages.values()
        if isinstance(location, dict)
        for name, errors in location.items()
    }
