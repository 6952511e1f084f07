"""How an endpoint is made.

Its right, what it takes, what it answers, and its place in the OpenAPI document.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib import import_module
from typing import Any, TypeVar, cast

import flask_smorest
from flask import Flask, Response
from marshmallow import EXCLUDE, RAISE, Schema, fields

from console.api.fields import text_field
from console.web import api_auth, request
from workflow.context import AppContext
from workflow.permissions import Right

F = TypeVar("F", bound=Callable[..., Any])
DOCUMENT_VIEW = "api-docs.openapi_json"
ENDPOINT_MODULES = (
    "tickets",
    "ticket_actions",
    "customers",
    "desk",
    "automated",
    "deliveries",
    "operations",
    "webhooks",
)
blueprint = flask_smorest.Blueprint(api_auth.BLUEPRINT, __name__, url_prefix="/api/v1")


class ErrorBody(Schema):
    """What every no looks like."""

    error = text_field(metadata={"description": "A word for programs."})
    detail = text_field(metadata={"description": "A sentence for people."})
    field_errors = fields.Dict(
        data_key="fields", metadata={"description": "What is wrong with which field."}
    )


class ConditionalHeaders(Schema):
    """Headers of a change that is only to be made to what was seen."""

    if_match = fields.String(
        data_key="If-Match", load_default="", metadata={"description": "The ETag that was seen."}
    )


class _Api(flask_smorest.Api):
    """The library's, without its handler of errors: ours says less of the inside."""

    ERROR_SCHEMA = ErrorBody

    def _register_error_handlers(self) -> None:
        return


def register_api(app: Flask, context: AppContext) -> None:
    """Serve the API, and its OpenAPI document at /api/openapi.json."""
    api_auth.register_call_counter(app, context)
    for name in ENDPOINT_MODULES:  # each adds its endpoints when it is imported
        import_module(f"console.api.{name}")
    app.config.update(
        API_TITLE="support-intake",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/api",
        OPENAPI_JSON_PATH="openapi.json",
    )
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "description": "intake_…, made at /account/tokens",
    }
    api = _Api(app, spec_kwargs={"components": {"securitySchemes": {"token": scheme}}})
    api.register_blueprint(blueprint)
    shown = app.view_functions[DOCUMENT_VIEW]  # a method, which takes no mark

    @request.public
    def document() -> Response:
        return cast("Response", shown())

    app.view_functions[DOCUMENT_VIEW] = document


def endpoint(  # noqa: PLR0913  # what makes up an endpoint, most of it named at the call
    method: str,
    path: str,
    right: Right,
    answer: type[Schema] | None,
    *,
    about: str,
    query: type[Schema] | None = None,
    body: type[Schema] | None = None,
    headers: type[Schema] | None = None,
    status: int = 200,
    refuses: Sequence[int] = (),
    kind: str = "application/json",
) -> Callable[[F], F]:
    """Make a function an endpoint.

    It is given headers, query and body, in this order, and then what the path names.
    """
    faults = {401, 403, 429, 500, 503, *refuses}
    faults |= {404} if "<" in path else set()
    faults |= {422} if query or body or headers else set()
    faults |= {400} if body else set()

    def make(view: F) -> F:
        made: Any = request.requires(right)(view)
        if body is not None:
            made = blueprint.arguments(body, location="json", unknown=RAISE)(made)
        if query is not None:
            made = blueprint.arguments(query, location="query", unknown=RAISE)(made)
        if headers is not None:
            made = blueprint.arguments(headers, location="headers", unknown=EXCLUDE)(made)
        made = blueprint.response(
            status, answer, content_type=kind, description=HTTPStatus(status).phrase
        )(made)
        for code in sorted(faults):
            made = blueprint.alt_response(code, response=HTTPStatus(code).name)(made)
        made = blueprint.doc(
            security=[{"token": [str(right)]}], operationId=view.__name__.strip("_")
        )(made)
        blueprint.route(path, methods=[method], tags=[about], endpoint=view.__name__.strip("_"))(
            made
        )
        return view

    return make
