"""Who may use the web app: checks of host, origin and token, and the headers that every response has."""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitreous.web.errors import error_response

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; "
    "style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), display-capture=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""No response may be shown inside another site's page, or run anything that is not ours."""
PAGE_HEADERS = {"Permissions-Policy": HEADERS["Permissions-Policy"].replace("camera=()", "camera=(self)")}
"""The page itself may ask for the browser's camera."""
OPEN_PATHS = frozenset({"/healthz"})
"""Paths that need no token: whether the server is alive is no secret."""


class Guard:
    """Middleware that checks host, origin and token, and adds the headers that every response has.

    Args:
        app: the app behind it.
        served_host: the host that the server is bound to. Only requests for it are answered, or for this machine's
            name or an IP address if it can be reached from elsewhere. A page from elsewhere could otherwise have its
            own name point here and read the camera (DNS rebinding).
        token: what a browser must present, once as `?token=`, then as a cookie, or in the header Authorization; None
            if everyone who reaches the server may use it.
    """

    def __init__(self, app: ASGIApp, *, served_host: str, token: str | None = None) -> None:
        self.app, self.local_only, self.token = app, is_loopback(served_host), token
        name = socket.gethostname().lower()
        short = name.partition(".")[0]
        self.own_names = {served_host.lower(), name, short, f"{short}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS | (PAGE_HEADERS if scope["path"] == "/" else {}))
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        response = self.refuse(Request(scope)) or self.check_token(Request(scope))
        await (response or self.app)(scope, receive, send_with_headers)

    def refuse(self, request: Request) -> Response | None:
        """Return the response to a request for another host or from another site; None if it may pass."""
        header = request.headers.get("host", "")
        if not is_own_host(requested_host(header), () if self.local_only else self.own_names):
            where = "the address that vitreous printed" if self.local_only else "an IP address of this machine"
            return refusal(request, 403, f"open this page at {where}")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{header.lower()}", f"https://{header.lower()}"):
            return refusal(request, 403, "requests from pages of other sites are refused")
        if (
            request.headers.get("sec-fetch-site") == "cross-site"
            and request.headers.get("sec-fetch-mode") != "navigate"
        ):
            return refusal(request, 403, "requests from pages of other sites are refused")
        return None

    def check_token(self, request: Request) -> Response | None:
        """Return the response to a request without the token, or one that moves it into a cookie; None if it is there.

        The cookie holds a digest of the token, so that a stolen cookie doesn't reveal the address to share.
        """
        if self.token is None or request.url.path in OPEN_PATHS:
            return None
        cookie, proof = f"vitreous-token-{request.url.port or 80}", digest_token(self.token)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if _equal(bearer, self.token) or _equal(request.cookies.get(cookie, ""), proof):
            return None
        if not _equal(request.query_params.get("token", ""), self.token):
            return refusal(request, 401, "open this page at the address that vitreous printed, with its token")
        kept = urlencode([pair for pair in parse_qsl(request.url.query) if pair[0] != "token"])
        # The path of the request would let "//evil.example" choose the host of the redirect.
        response = RedirectResponse(f"/{request.url.path.lstrip('/')}{'?' + kept if kept else ''}", 303)
        response.set_cookie(cookie, proof, httponly=True, samesite="lax")
        return response


def refusal(request: Request, status: int, line: str) -> Response:
    """Return a refusal: an error like any other of the API, for a person who opens a page a line of text."""
    if f"{request.scope['path']}/".startswith("/api/"):
        return error_response(status, line)
    return PlainTextResponse(f"{line}\n", status)


def digest_token(token: str) -> str:
    """Return what the cookie of a token holds."""
    return hashlib.sha256(f"vitreous cookie {token}".encode()).hexdigest()


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def requested_host(header: str) -> str:
    """Return the name or address in a Host header without its port; "" for a malformed one.

    >>> requested_host("[::1]:8765"), requested_host("[")
    ('::1', '')
    """
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_own_host(host: str, own_names: Collection[str]) -> bool:
    """Return whether a request for this host is for this machine: its loopback, a name of its own or any IP address.

    Without own names only the loopback counts. No page has an IP address as its name.

    >>> is_own_host("192.168.0.7", {"desk"}), is_own_host("evil.example", {"desk"}), is_own_host("192.168.0.7", ())
    (True, False, False)
    """
    return is_loopback(host) or (bool(own_names) and (host in own_names or _address(host) is not None))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's own address, which no other machine reaches.

    >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
