"""The explorer as a server: ``app.py`` behind a middleware that tells pages where the root is.

Without it, the page of a deep link asks for the server under its own path first, and the browser
reports each of those requests as an error.
"""

from __future__ import annotations

import streamlit as st
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROOT = (
    b"<script>window.__streamlit = {BACKEND_BASE_URL: location.origin,"
    b" HOST_CONFIG_BASE_URL: location.origin, MAIN_PAGE_BASE_URL: location.origin};</script>"
)

NOT_WHOLE = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
"""Headers that let a server answer with less than the page as it is."""


class KnowsItsRoot:
    """Puts the server's address into the head of every HTML page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; of a page, the answer is changed."""
        accepts = dict(scope.get("headers", ())).get(b"accept", b"")
        if scope["type"] != "http" or b"text/html" not in accepts:
            await self.app(scope, receive, send)
            return
        whole = [(k, v) for k, v in scope["headers"] if k not in NOT_WHOLE]
        await self.app({**scope, "headers": whole}, receive, Rooted(send))


class Rooted:
    """Collects a page, inserts the script, sends it on with its new length."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        """One message of the page's answer."""
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = self.body.replace(b"<head>", b"<head>" + ROOT, 1)
        headers = [(k, v) for k, v in self.start["headers"] if k.lower() != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await self.send({**self.start, "headers": [*headers, length]})
        await self.send({"type": "http.response.body", "body": body})


app = st.App("app.py", middleware=[Middleware(KnowsItsRoot)])
