"""Single sign-on by OpenID Connect: redirect to the issuer, verify everything it returns."""

from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client.apps import FlaskOAuth2App
from flask import flash, make_response, redirect, render_template, url_for
from flask_security import FsOAuthProvider
from joserfc.errors import JoseError
from requests import RequestException
from werkzeug.wrappers import Response as AnyResponse

from console.web.request import get_context
from workflow.runtime import log
from workflow.settings.settings import Oidc

PROVIDER_NAME = "oidc"  # part of the URLs of the library's views
TIMEOUT_SECONDS = 10  # for one answer of the issuer: a thread of ours waits for it
FAILED_MESSAGE = (
    "The sign-in did not work. Please try again; if it never does, an admin has to look at [oidc]"
    " in intake.toml."
)
NO_ACCOUNT_MESSAGE = (
    "This sign-in opens no account here. Ask an admin for one, or sign in with your password."
)
# Errors of the libraries: the issuer is unreachable, refuses, or its answer does not verify.
ISSUER_ERRORS = (AuthlibBaseError, JoseError, RequestException, ValueError, KeyError, RuntimeError)


class OidcClient(FlaskOAuth2App):  # type: ignore[misc]  # authlib ships no types
    """Authlib's client for one issuer under our public address.

    Every error there has the same answer.
    """

    def authorize_redirect(self, redirect_uri: str | None = None, **more: Any) -> AnyResponse:
        """Return a page that continues to the issuer by itself.

        No redirect: our content security policy allows forms to submit to ourselves only, and
        browsers apply it to a redirect that answers a form.
        """
        # the library builds it from the request, whose host is another one behind a proxy
        path = urlsplit(redirect_uri or "").path
        return_url = urljoin(get_context().settings.public_url, path)
        try:
            self._check_issuer()
            target = self.create_authorization_url(return_url, **more)
        except ISSUER_ERRORS as error:
            log.sign_on_failed(error)
            flash(FAILED_MESSAGE, "error")
            return redirect(url_for("security.login"))
        self.save_authorize_data(redirect_uri=return_url, **target)
        page = make_response(render_template("security/onward.html", url=target["url"]))
        page.headers["Refresh"] = f"0;url={target['url']}"
        return page

    def authorize_access_token(self, **more: Any) -> dict[str, Any]:
        """Return the verified token: state, nonce, signature, issuer and audience hold.

        Raises OAuthError.
        """
        try:
            self._check_issuer()
            token: dict[str, Any] = super().authorize_access_token(**more)
            claims = token.get("userinfo")
            # only `sub` must be in an ID token; the address may be at userinfo (OIDC Core §5.4)
            if claims is not None and not claims.get("email"):
                profile = self.userinfo(token=token)
                is_same_person = profile.get("sub") == claims["sub"]  # OIDC Core §5.3.2
                token["userinfo"] = {**claims, **profile} if is_same_person else {}
        except ISSUER_ERRORS as error:
            _refuse(error)
        return token

    def _check_issuer(self) -> None:
        """Raise OAuthError when the discovery document is another issuer's.

        Source: OIDC Discovery §4.3.
        """
        issuer, settings = self.load_server_metadata().get("issuer"), get_context().settings.oidc
        if (
            settings is None
            or not isinstance(issuer, str)
            or issuer.rstrip("/") != settings.issuer.rstrip("/")
        ):
            self.server_metadata.clear()
            raise OAuthError


class OidcProvider(FsOAuthProvider):
    """An OpenID Connect issuer, configured by its discovery document."""

    def __init__(self, settings: Oidc) -> None:
        registration = {
            "client_cls": OidcClient,
            "client_id": settings.client_id,
            "client_secret": settings.client_secret.get_secret_value(),
            "server_metadata_url": (
                f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            ),
            "client_kwargs": {"scope": "openid email", "default_timeout": TIMEOUT_SECONDS},
        }
        super().__init__(PROVIDER_NAME, registration)

    def fetch_identity_cb(self, oauth: Any, token: Any) -> tuple[str, str]:
        """Return ("email", address) of the ID token; the address is "" when it is unverified."""
        del oauth
        profile = token.get("userinfo") or {}
        # some issuers send the text "true", some leave the claim out
        is_verified = profile.get("email_verified", True) in (True, "true")
        return "email", str(profile.get("email") or "") if is_verified else ""

    def oauth_response_failure(self, error_view: str, e: OAuthError) -> AnyResponse:
        """Answer with a fixed text: the query of the address may be from anybody."""
        del error_view, e
        flash(FAILED_MESSAGE, "error")
        return redirect(url_for("security.login"))


def _refuse(error: Exception) -> NoReturn:
    log.sign_on_failed(error)
    raise OAuthError from error
