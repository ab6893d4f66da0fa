# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt web`: a page to talk to a model, compare two, and look inside; the same page runs as a Hub Space.

Nobody's text is trusted: what is typed and what a model says is shown as text, never as markup, and the page may load
and reach nothing but its own server (its content security policy says so to the browser).
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from html import escape
from itertools import zip_longest
from typing import Any

from scratch_gpt.errors import UserError


try:
    import gradio as gr
    import uvicorn  # noqa: F401  # by listening.py
    from fastapi import FastAPI
except ImportError:
    message = 'the page needs more packages: pip install "scratch-gpt[web]"'
    raise UserError("missing_package", message, package="scratch-gpt[web]") from None

from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.runs.results import invitation
from scratch_gpt.serving.chat import ChatSession, Message, StreamingModel, TextStream
from scratch_gpt.serving.inspection import attention_table, attention_weights, next_tokens, token_label
from scratch_gpt.serving.listening import listen, run_server


# Longest text that is looked at; what the model reads is shorter still.
MAX_CHARACTERS = 20_000
# A table of more tokens would be unreadable.
MAX_ATTENTION_TOKENS = 64
NUM_NEXT_TOKENS = 10
# Between two updates of the page: a model may be faster than a browser.
UPDATE_SECONDS = 0.05
MEAN_OF_HEADS = "mean of all"

THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
CSS = """
.attention { overflow-x: auto; }
.attention table, .attention tbody { border: 0; }
.attention table { width: auto; border-collapse: collapse; font: 0.8rem ui-monospace, monospace; }
.attention tr, .attention th, .attention td { border: 0; padding: 0; }
.attention th { font-weight: normal; white-space: pre; padding: 0 0.3em; unicode-bidi: isolate; }
.attention th[scope=row] { text-align: right; }
.attention th span { writing-mode: vertical-rl; transform: rotate(180deg); }
.attention td { min-width: 1.5em; height: 1.5em; border: 1px solid var(--border-color-primary);
  background: rgb(249 115 22 / var(--weight)); }
.message { unicode-bidi: plaintext; overflow-wrap: anywhere; }
"""
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


def _telling(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A mistake of the user's becomes a notice on the page, and what is shown stays."""

    @functools.wraps(handler)
    def tell(*arguments: Any) -> Iterator[Any]:
        try:
            yield from handler(*arguments)
        except UserError as error:
            gr.Warning(str(error), title="Not done")
            yield gr.skip()

    return tell


def _checked(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        message = f"that text has {len(text)} characters, the page takes {MAX_CHARACTERS}: shorten it"
        raise UserError("too_long", message, length=len(text), limit=MAX_CHARACTERS)
    return text


def _paced(pieces: TextStream) -> TextStream:
    """All said so far, now and then and at the end."""
    text, last = "", 0.0
    with contextlib.closing(pieces):
        for piece in pieces:
            text += piece
            if time.monotonic() - last >= UPDATE_SECONDS:
                last = time.monotonic()
                yield text
    yield text


class Page:
    """What the buttons of the page do, for models known by name."""

    def __init__(self, models: list[StreamingModel]) -> None:
        self.models = {model.name: model for model in models}

    @_telling
    def chat(
        self, message: str, messages: list[Message], name: str, system: str, *settings: float
    ) -> Iterator[tuple]:
        """Yield the input line (emptied once), what is shown and the messages, while the answer forms."""
        session = ChatSession(
            self.models[name], _sampling(*settings), _checked(system.strip()) or None, list(messages)
        )
        line: Any = ""
        with contextlib.closing(_paced(session.ask(_checked(message.strip())))) as answer:
            for _ in answer:
                yield line, _shown(session), list(session.messages)
                line = gr.skip()  # what is being typed by now stays

    @_telling
    def compare(self, message: str, *settings: float) -> Iterator[tuple[str, ...]]:
        """Yield the texts of both models while they form: answers of chat models, else continuations."""
        sampling = _sampling(*settings)
        with contextlib.ExitStack() as stack:
            streams = []
            for model in self.models.values():
                if model.is_chat:
                    pieces = ChatSession(model, sampling).ask(_checked(message))
                else:
                    pieces = model.complete(_checked(message), sampling)
                streams.append(stack.enter_context(contextlib.closing(_paced(pieces))))
            texts = [""] * len(streams)
            for new in zip_longest(*streams):
                texts = [old if text is None else text for text, old in zip(new, texts, strict=True)]
                yield tuple(texts)

    @_telling
    def complete(self, text: str, name: str, *settings: float) -> TextStream:
        """Yield `text` with what the model adds, while it forms."""
        pieces = self.models[name].complete(_checked(text), _sampling(*settings))
        with contextlib.closing(_paced(pieces)) as continuations:
            for continuation in continuations:
                yield text + continuation

    @_telling
    def next_tokens(self, text: str, name: str) -> Iterator[list[list[str]]]:
        """Yield rows of token and probability, the likeliest first."""
        model = self.models[name]
        token_ids = model.encode(_checked(text))
        model.refuse_long("text", token_ids, Sampling(max_new_tokens=1))
        found = next_tokens(model.model, model.tokenizer, token_ids, NUM_NEXT_TOKENS)
        yield [[label, f"{probability:.1%}"] for label, probability in found]

    @_telling
    def attention(self, text: str, name: str, layer: int, head: str) -> Iterator[str]:
        """Yield the table of a layer (counted from 1) and a head ("1", ... or MEAN_OF_HEADS)."""
        model = self.models[name]
        token_ids = model.encode(_checked(text))
        limit = min(MAX_ATTENTION_TOKENS, model.context)
        if len(token_ids) > limit:
            message = f"that text is {len(token_ids)} tokens, the table shows {limit}: shorten it"
            raise UserError("too_long", message, length=len(token_ids), limit=limit)
        weights = attention_weights(model.model, token_ids)
        layers, heads = weights.shape[:2]
        if layer > layers:
            message = f"{name} has {layers} layers, there is no layer {layer}"
            raise UserError("wrong_value", message, setting="layer", value=layer)
        if head != MEAN_OF_HEADS and int(head) > heads:
            message = f"{name} has {heads} heads, there is no head {head}"
            raise UserError("wrong_value", message, setting="head", value=head)
        of_layer = weights[int(layer) - 1]
        chosen = of_layer.mean(0) if head == MEAN_OF_HEADS else of_layer[int(head) - 1]
        yield attention_table([token_label(model.tokenizer, index) for index in token_ids], chosen)


def _sampling(temperature: float, top_p: float, max_new_tokens: float) -> Sampling:
    return Sampling(temperature, top_p, max_new_tokens=int(max_new_tokens))


def _shown(session: ChatSession) -> list[Message]:
    """The messages for the chat window; where some no longer fit the context, a line says so."""
    # Without markdown the window still takes HTML: escaped, it shows what was written.
    shown = [{**message, "content": escape(message["content"])} for message in session.messages]
    if session.forgotten:
        note = (
            f"(The messages above no longer fit the context of {session.speaker.context} tokens: forgotten.)"
        )
        shown.insert(session.forgotten, {"role": "assistant", "content": note})
    return shown


def make_page(models: list[StreamingModel]) -> gr.Blocks:
    """The page for one model or two.

    Raises:
        UserError: two models of the same name.
    """
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        message = f"both folders are called {names[0]}: rename one, names tell them apart on the page"
        raise UserError("duplicate_name", message, name=names[0])
    page = Page(models)
    talkers = [model.name for model in models if model.is_chat]
    first = Sampling.of(models[0].model.generation_config)
    # One answer after the other, whoever asks: they share the processor, and the attention view switches the model.
    queued: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}

    with gr.Blocks(title=" and ".join(names), analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown("# Talk to it, look at it")
        with gr.Accordion("Settings", open=False, elem_id="settings"), gr.Row():
            system = gr.Textbox("", label="System message, for chats", max_lines=4, visible=bool(talkers))
            settings = [
                gr.Slider(0, 2, first.temperature, step=0.05, label="Temperature (0: always the likeliest)"),
                gr.Slider(0.05, 1, first.top_p, step=0.05, label="Top p"),
                gr.Slider(1, 1000, first.max_new_tokens, step=1, label="Longest answer, in tokens"),
            ]
        if talkers:
            with gr.Tab("Chat"):
                questions = next(model.questions for model in models if model.is_chat)
                _chat_tab(page, talkers, questions, [system, *settings], queued)
        if len(models) > 1:
            with gr.Tab("Side by side"):
                _compare_tab(page, names, settings, queued)
        with gr.Tab("Completion"):
            _completion_tab(page, names, settings, queued)
        with gr.Tab("Attention"):
            _attention_tab(page, models, queued)
    return blocks


def _model_choice(names: list[str], prefix: str) -> gr.Dropdown:
    return gr.Dropdown(
        names,
        value=names[0],
        label="Model",
        visible=len(names) > 1,
        elem_id=f"{prefix}-model",
        filterable=False,
    )


def _chat_tab(
    page: Page, names: list[str], questions: list[str], settings: list, queued: dict[str, Any]
) -> None:
    name = _model_choice(names, "chat")
    messages = gr.State([])
    window = gr.Chatbot(
        render_markdown=False,
        latex_delimiters=[],
        buttons=[],
        label="Conversation",
        height=400,
        elem_id="chat",
    )
    message = gr.Textbox(
        "",
        label="Message",
        # a placeholder is never markup
        placeholder=". ".join(filter(None, ("Enter sends", invitation(questions)))),
        lines=1,
        max_lines=6,
        elem_id="chat-message",
        autofocus=True,
    )
    with gr.Row():
        send = gr.Button("Send", variant="primary", elem_id="chat-send")
        stop = gr.Button("Stop", elem_id="chat-stop")
        reset = gr.Button("Reset", elem_id="chat-reset")
    answering = gr.on(
        [message.submit, send.click],
        page.chat,
        [message, messages, name, *settings],
        [message, window, messages],
        **queued,
    )
    stop.click(None, cancels=[answering])
    gr.on([reset.click, window.clear], lambda: ([], []), None, [window, messages], cancels=[answering])


def _compare_tab(page: Page, names: list[str], settings: list, queued: dict[str, Any]) -> None:
    prompt = gr.Textbox("", label="The same message to both models", lines=2, elem_id="compare-message")
    with gr.Row():
        send = gr.Button("Send", variant="primary", elem_id="compare-send")
        stop = gr.Button("Stop")
    with gr.Row():
        answers = [
            gr.Textbox(label=name, lines=10, interactive=False, elem_id=f"compare-{number}")
            for number, name in enumerate(names, start=1)
        ]
    answering = gr.on([send.click], page.compare, [prompt, *settings], answers, **queued)
    stop.click(None, cancels=[answering])


def _completion_tab(page: Page, names: list[str], settings: list, queued: dict[str, Any]) -> None:
    name = _model_choice(names, "completion")
    text = gr.Textbox("", label="Text to continue", lines=8, elem_id="completion-text")
    with gr.Row():
        go = gr.Button("Continue", variant="primary", elem_id="completion-go")
        stop = gr.Button("Stop")
        look = gr.Button("Next token", elem_id="completion-next")
    tokens = gr.Dataframe(
        headers=["next token", "probability"],
        datatype="str",
        interactive=False,
        elem_id="completion-tokens",
        label="How probable each next token is, at temperature 1",
    )
    answering = go.click(page.complete, [text, name, *settings], text, **queued)
    answering.then(page.next_tokens, [text, name], tokens, **queued)
    stop.click(None, cancels=[answering])
    look.click(page.next_tokens, [text, name], tokens, **queued)


def _attention_tab(page: Page, models: list[StreamingModel], queued: dict[str, Any]) -> None:
    name = _model_choice([model.name for model in models], "attention")
    layers = max(model.model.config.num_hidden_layers for model in models)
    heads = max(model.model.config.num_attention_heads for model in models)
    text = gr.Textbox("", label="Text", lines=2, elem_id="attention-text")
    with gr.Row():
        layer = gr.Slider(1, layers, 1, step=1, label="Layer", visible=layers > 1, elem_id="attention-layer")
        choices = [MEAN_OF_HEADS, *map(str, range(1, heads + 1))]
        head = gr.Dropdown(
            choices, value=MEAN_OF_HEADS, label="Head", elem_id="attention-head", filterable=False
        )
    look = gr.Button("Look", variant="primary", elem_id="attention-look")
    gr.Markdown(
        "Each row is a token, and the darker a cell, the more it takes from that token. No token sees later ones."
    )
    table = gr.HTML(elem_id="attention-table")
    look.click(page.attention, [text, name, layer, head], table, **queued)


def make_web_app(models: list[StreamingModel]) -> FastAPI:
    """The page as an application that no other site's content gets into."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks = make_page(models)
    gr.mount_gradio_app(
        app,
        blocks,
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


def serve_page(folders: list[str], host: str = "localhost", port: int = 7860) -> None:
    """Show the page for the models in `folders` until Ctrl-C; "ready" is said when it answers.

    Raises:
        UserError: no model in a folder, two of one name, or the port is in use.
    """
    with listen(host, port) as listener:  # first: loading a model takes a while
        models = [StreamingModel.load(folder) for folder in folders]
        app = make_web_app(models)
        for model in models:  # what is done once at the first answer is done now
            list(model.complete("a", Sampling(max_new_tokens=1)))
        address = f"http://{host}:{listener.getsockname()[1]}"
        run_server(app, listener, host, f"ready: {address} (Ctrl-C ends)", log_level="warning")
