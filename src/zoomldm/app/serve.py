"""Serving the page on this machine alone; a browser that shows it asks no other host for anything."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from zoomldm.app.session import Session
from zoomldm.errors import ConfigError

ADDRESS = "127.0.0.1"
POLICY = (
    b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    b"style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
)
"""Gradio's page runs scripts of its own inline; nothing may come from, or go to, another host."""

Message = MutableMapping[str, Any]


class OnlyFromHere:
    """An ASGI middleware that sends the policy with every answer."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, with_policy)


def serve(session: Session, *, port: int, waits: bool = True) -> Any:
    """Show the page until Ctrl-C; return Gradio's blocks.

    Args:
        waits: False to return at once, for tests.

    Raises:
        ConfigError: the port is taken.
    """
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(session.folder / "shown"),
    }
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is there
    import gradio as gr
    from starlette.middleware import Middleware

    from zoomldm.app.page import STYLE, Page

    blocks = Page(session).build().queue(max_size=8)
    try:
        blocks.launch(
            server_name=ADDRESS,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=int(session.limits.upload_mb * 1e6),
            allowed_paths=[str(session.folder)],
            app_kwargs={"middleware": [Middleware(OnlyFromHere)]},
            theme=gr.themes.Default(),
            css=STYLE,
        )
    except OSError as error:
        raise ConfigError(f"port={port}: cannot be served on ({error}); choose another, port={port + 1}") from error
    print(f"the page: {blocks.local_url}  (Ctrl-C ends it)")
    if waits:
        blocks.block_thread()
    return blocks
