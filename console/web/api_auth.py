"""Authenticate API calls by bearer token, check their scope and limit their rate."""

from flask import Flask, current_app, g, request
from limits import RateLimitItemPerMinute

from console.bootstrap import find_redis_url
from console.web import request as web_request
from console.web.api_errors import ApiError
from console.web.rate_limit import CallCounter
from console.web.request import RIGHT_ATTRIBUTE, get_session, now
from workflow.accounts import api_tokens
from workflow.context import AppContext
from workflow.models.accounts import ApiToken
from workflow.permissions import Right, describe_missing_right

BLUEPRINT = "api"
WRONG_TOKEN_LIMIT = RateLimitItemPerMinute(30)  # wrong tokens, from one address
RETRY_AFTER_SECONDS = "60"  # seconds; the window of the limits
REALM = 'Bearer realm="support-intake"'
COUNTER_KEY = "intake.api.calls"


def register_call_counter(app: Flask, context: AppContext) -> None:
    """Give the app its call counter, shared between processes where there is Redis."""
    app.extensions[COUNTER_KEY] = CallCounter(find_redis_url(context.settings))


def authorize_call(view: object) -> None:
    """Check token, rate limit and scope of a call. Raises ApiError: 401, 403, 429."""
    token = _authenticate()
    g.staff, g.rights = token.staff, api_tokens.get_rights(token)
    # By token, not by address: the programs of an office share one address.
    most = RateLimitItemPerMinute(web_request.get_context().settings.api_calls_per_minute)
    if not _get_counter().count_call(most, "token", str(token.id)):
        raise ApiError(429, Retry_After=RETRY_AFTER_SECONDS)
    api_tokens.record_use(web_request.get_context().store, token, now())
    right = getattr(view, RIGHT_ATTRIBUTE, None)
    # A view without a mark: refused, as the pages do.
    if not isinstance(right, Right):
        raise ApiError(403)
    if right not in g.rights:
        scope = f'{REALM}, error="insufficient_scope", scope="{right}"'
        refusal = describe_missing_right(right)
        words = f"{refusal}: this token, or the role of its person, lacks that scope"
        raise ApiError(403, words, WWW_Authenticate=scope)


def _authenticate() -> ApiToken:
    address = request.remote_addr or ""
    # Before the database is asked: guessing must not cost a query each.
    if not _get_counter().is_allowed(WRONG_TOKEN_LIMIT, "wrong", address):
        raise ApiError(429, Retry_After=RETRY_AFTER_SECONDS)
    authorization = request.authorization
    if authorization is None or authorization.type != "bearer" or not authorization.token:
        raise ApiError(401, WWW_Authenticate=REALM)
    token = api_tokens.find_token(get_session(), authorization.token)
    if token is None:
        _get_counter().count_call(WRONG_TOKEN_LIMIT, "wrong", address)
        raise ApiError(401, WWW_Authenticate=f'{REALM}, error="invalid_token"')
    return token


def _get_counter() -> CallCounter:
    counter = current_app.extensions[COUNTER_KEY]
    assert isinstance(counter, CallCounter)
    return counter
