"""Who calls the API: the bearer of a token, and nobody by a cookie; how often, and for what."""

from flask import Flask, current_app, g, request
from limits import RateLimitItemPerMinute

from console.bootstrap import redis_url
from console.web import request as web_request
from console.web.api_errors import Refused
from console.web.rate_limit import Counter
from console.web.request import RIGHT, db, now
from workflow.accounts import api_tokens
from workflow.context import House
from workflow.models.accounts import ApiToken
from workflow.permissions import Right, lacking

BLUEPRINT = "api"
WRONG = RateLimitItemPerMinute(30)  # tokens that are none, from one address
WINDOW = "60"  # seconds: whoever waits them out may call again
REALM = 'Bearer realm="support-intake"'
COUNTED = "intake.api.calls"


def attach(app: Flask, house: House) -> None:
    """Give the app its counters, shared with other processes of the house where there is Redis."""
    app.extensions[COUNTED] = Counter(redis_url(house.settings))


def admit(view: object) -> None:
    """Let the call through if its token may do this. Raises Refused: 401, 403, 429."""
    token = _presented()
    g.staff, g.rights = token.staff, api_tokens.rights(token)
    most = RateLimitItemPerMinute(web_request.house().settings.api_calls_per_minute)
    if not _counted().hit(most, "token", str(token.id)):
        raise Refused(429, Retry_After=WINDOW)
    api_tokens.seen(web_request.house().store, token, now())
    right = getattr(view, RIGHT, None)
    if not isinstance(right, Right):
        raise Refused(403)
    if right not in g.rights:
        scope = f'{REALM}, error="insufficient_scope", scope="{right}"'
        words = f"{lacking(right)}: this token, or the role of its person, lacks that scope"
        raise Refused(403, words, WWW_Authenticate=scope)


def _presented() -> ApiToken:
    where = request.remote_addr or ""
    if not _counted().test(WRONG, "wrong", where):
        raise Refused(429, Retry_After=WINDOW)
    given = request.authorization
    if given is None or given.type != "bearer" or not given.token:
        raise Refused(401, WWW_Authenticate=REALM)
    token = api_tokens.presented(db(), given.token)
    if token is None:
        _counted().hit(WRONG, "wrong", where)
        raise Refused(401, WWW_Authenticate=f'{REALM}, error="invalid_token"')
    return token


def _counted() -> Counter:
    found = current_app.extensions[COUNTED]
    assert isinstance(found, Counter)
    return found
