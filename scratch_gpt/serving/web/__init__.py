# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt web`: a page to talk to a model, compare two answers and look inside; the same page runs as a Hub Space.

Nobody's text is trusted: what is typed and what a model says is shown as text, never as markup, and the page may load
and reach nothing but its own server (its content security policy says so to the browser). Imports `publishing`, `evaluation` and what is below them.
"""

from scratch_gpt.errors import UserError


try:
    import gradio  # noqa: F401
    import uvicorn  # noqa: F401  # by listening.py
except ImportError:
    message = 'the page needs more packages: pip install "scratch-gpt[web]"'
    raise UserError("missing_package", message, package="scratch-gpt[web]") from None

from scratch_gpt.serving.web.server import make_web_app, serve_page


__all__ = ["make_web_app", "serve_page"]
