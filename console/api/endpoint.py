"""Decorator that makes a function an endpoint of the API.

It names the right the endpoint needs, the schemas of what it takes and answers, and its place in
the OpenAPI document.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from http import HTTPStatus
from importlib import import_module
from typing import Any, TypeVar, cast

import flask_smorest
from apispec import APISpec
from flask import Flask, Response
from marshmallow import EXCLUDE, RAISE, Schema, fields

from console.api.fields import text_field
from console.web import api_auth, request
from workflow.context import AppContext
from workflow.permissions import Right

F = TypeVar("F", bound=Callable[..., Any])
DOCUMENT_VIEW = "api-docs.openapi_json"
PENDING_DOCUMENT = "intake-api-document"  # in `app.extensions`: completes the document, once
_completing = threading.Lock()
ENDPOINT_MODULES = (
    "tickets",
    "ticket_actions",
    "customers",
    "desk",
    "automated",
    "sender_rules",
    "deliveries",
    "operations",
    "webhooks",
)


class _Blueprint(flask_smorest.Blueprint):
    """The library's Blueprint, whose part of the OpenAPI document is made when it is asked for.

    Making it takes half of the time in which an app is built, and few processes ever serve it.
    """

    def register_views_in_doc(
        self, api: flask_smorest.Api, app: Flask, spec: APISpec, **options: Any
    ) -> None:
        """Have `complete_document` do it."""
        document = partial(super().register_views_in_doc, api, app, spec, **options)
        app.extensions[PENDING_DOCUMENT] = cache(document)


blueprint = _Blueprint(api_auth.BLUEPRINT, __name__, url_prefix="/api/v1")


class ErrorBody(Schema):
    """Body of every answer that refuses a call."""

    error = text_field(metadata={"description": "A word for programs."})
    detail = text_field(metadata={"description": "A sentence for people."})
    field_errors = fields.Dict(
        data_key="fields", metadata={"description": "Errors by the name of their field."}
    )


class ConditionalHeaders(Schema):
    """Headers of a change that is refused when the ticket has changed since the caller saw it."""

    if_match = fields.String(
        data_key="If-Match", load_default="", metadata={"description": "The ETag that was seen."}
    )


class _Api(flask_smorest.Api):
    """The library's Api without its error handlers: ours reveal less of the inside."""

    ERROR_SCHEMA = ErrorBody

    def _register_error_handlers(self) -> None:
        return


def register_api(app: Flask, context: AppContext) -> None:
    """Serve the API, and its OpenAPI document at /api/openapi.json."""
    api_auth.register_call_counter(app, context)
    for name in ENDPOINT_MODULES:  # each registers its endpoints on import
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
        "description": "intake_…, created at /account/tokens",
    }
    api = _Api(app, spec_kwargs={"components": {"securitySchemes": {"token": scheme}}})
    api.register_blueprint(blueprint)
    library_view = app.view_functions[DOCUMENT_VIEW]

    # A function of our own, because `public` sets an attribute, and a method takes none.
    @request.public
    def document() -> Response:
        with _completing:
            app.extensions[PENDING_DOCUMENT]()
        return cast("Response", library_view())

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
    other_answers: Mapping[int, type[Schema]] | None = None,
    kind: str = "application/json",
) -> Callable[[F], F]:
    """Make a function an endpoint of the API.

    The function gets the parsed headers, query and body, in this order, and then the values of the
    path. Its name is the operation's id in the OpenAPI document, from which programs generate
    clients: renaming one breaks them. `refuses` lists the error codes beyond the usual ones,
    `other_answers` the bodies of further codes that are no errors.
    """
    error_codes = {401, 403, 429, 500, 503, *refuses}
    error_codes |= {404} if "<" in path else set()
    error_codes |= {422} if query or body or headers else set()
    error_codes |= {400} if body else set()

    def register(view: F) -> F:
        name = view.__name__.strip("_")
        handler: Any = request.requires(right)(view)
        # The outermost decorator runs first, so the one added last gives the first argument.
        if body is not None:
            handler = blueprint.arguments(body, location="json", unknown=RAISE)(handler)
        if query is not None:
            handler = blueprint.arguments(query, location="query", unknown=RAISE)(handler)
        if headers is not None:
            handler = blueprint.arguments(headers, location="headers", unknown=EXCLUDE)(handler)
        phrase = HTTPStatus(status).phrase
        handler = blueprint.response(status, answer, content_type=kind, description=phrase)(handler)
        for code, schema in (other_answers or {}).items():
            phrase = HTTPStatus(code).phrase
            handler = blueprint.alt_response(code, schema=schema, description=phrase)(handler)
        for code in sorted(error_codes):
            handler = blueprint.alt_response(code, response=HTTPStatus(code).name)(handler)
        handler = blueprint.doc(security=[{"token": [str(right)]}], operationId=name)(handler)
        blueprint.route(path, methods=[method], tags=[about], endpoint=name)(handler)
        return view

    return register
