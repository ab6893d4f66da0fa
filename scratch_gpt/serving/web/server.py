# SPDX-License-Identifier: Apache-2.0
"""The page as an application of its own: its security policy, its models, its address."""

import contextlib
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from scratch_gpt.errors import UserError
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.publishing.facts import lineage
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.listening import listen, run_server
from scratch_gpt.serving.web.page import CSS, THEME, make_page


# Gradio's own scripts are inline and make functions from text; nothing is fetched from or sent to anywhere else.
SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'none'"
)


class _Policy:
    """ASGI middleware: SECURITY_POLICY on every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", SECURITY_POLICY.encode())
                message["headers"] = [*message["headers"], policy]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def make_web_app(models: list[StreamingModel]) -> FastAPI:
    """The page as an application that no other site's content gets into."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        make_page(models),
        path="/",
        theme=THEME,
        css=CSS,
        footer_links=[],
        run_history=False,
        max_file_size=1,
        ssr_mode=False,
    )
    app.add_middleware(_Policy)
    return app


def load_models(folders: list[str]) -> list[StreamingModel]:
    """The models in `folders`; beside a single one, the model that it was trained from, if that is in the same folder.

    Raises:
        UserError: no model in a folder.
    """
    models = [StreamingModel.load(folder) for folder in folders]
    *earlier, last = lineage(Path(folders[-1]))
    if len(models) == 1 and earlier and earlier[-1].resolve().parent == last.resolve().parent:
        with contextlib.suppress(UserError):  # nobody asked for it
            models.append(StreamingModel.load(str(earlier[-1])))
    return models


def serve_page(folders: list[str], host: str = "localhost", port: int = 7860) -> None:
    """Show the page for the models in `folders` until Ctrl-C; "ready" is said when it answers.

    Raises:
        UserError: no model in a folder, two of one name, or the port is in use.
    """
    with listen(host, port) as listener:  # first: loading a model takes a while
        models = load_models(folders)
        app = make_web_app(models)
        for model in models:  # what is done once at the first answer is done now
            list(model.complete("a", Sampling(max_new_tokens=1)))
        address = f"http://{host}:{listener.getsockname()[1]}"
        run_server(app, listener, host, f"ready: {address} (Ctrl-C ends)", log_level="warning")
