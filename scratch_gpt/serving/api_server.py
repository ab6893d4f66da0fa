# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt serve`: one local model behind the interface of OpenAI's server.

A request is read and checked (protocol.py), waits in line (generation_queue.py), is answered by the model
(generation.py), and takes OpenAI's form (answers.py). It is served as it was asked, or refused with one line.
"""

import base64
import contextlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils import logging

from scratch_gpt.errors import UserError, wrong_value


try:
    import uvicorn  # noqa: F401  # by listening.py
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, Response, StreamingResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
except ImportError:
    message = 'serving needs more packages: pip install "scratch-gpt[serve]"'
    raise UserError("missing_package", message, package="scratch-gpt[serve]") from None

from scratch_gpt.serving.answers import Answer, ChatAnswer, CompletionAnswer
from scratch_gpt.serving.generation import Piece, ServedModel, Settings
from scratch_gpt.serving.generation_queue import Emit, GenerationQueue, Work
from scratch_gpt.serving.listening import listen, run_server
from scratch_gpt.serving.protocol import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RequestError,
    ResponseFormat,
    SamplingRequest,
    parse,
)
from scratch_gpt.serving.tool_calls import as_template_messages


# Many times what a context holds, and little enough that parsing it, which no other thread can interrupt, stops nobody.
MAX_BODY_BYTES = 2**20
ROUTES = (
    "GET /health, GET /v1/models, POST /v1/chat/completions, POST /v1/completions and POST /v1/embeddings"
)


class Prepared(NamedTuple):
    """What is left to do for a request: the work, and the form of its answer."""

    work: Work
    answer: Answer
    stream: bool


def _settings(served: ServedModel, request: SamplingRequest, num_logprobs: int | None) -> Settings:
    if not served.generates:
        raise RequestError(
            f"model {served.name} is an encoder, it writes no text: ask /v1/embeddings", "model"
        )
    for index in request.logit_bias or {}:
        if index >= served.vocab_size:
            raise RequestError(f"logit_bias: there is no token {index}", "logit_bias")
    if request.stream_options is not None and not request.stream:
        raise RequestError("stream_options: only for a stream, add stream: true", "stream_options")
    return Settings(
        max_new_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        logit_bias=request.logit_bias,
        stop=tuple(request.stop or ()),
        seed=request.seed,
        num_logprobs=num_logprobs,
    )


def _with_usage(request: SamplingRequest) -> bool:
    return bool(request.stream_options and request.stream_options.include_usage)


def _at_least_one(value: int | None, param: str) -> int | None:
    if value == 0:
        raise RequestError(f"{param}: must be at least 1, got 0", param)
    return value


def _grammar(served: ServedModel, wanted: ResponseFormat) -> Any:
    param = "response_format.json_schema"
    if (wanted.type == "json_schema") != (wanted.json_schema is not None):
        raise RequestError(f"{param}: goes with type json_schema, and type json_schema with it", param)
    if wanted.type == "text":
        return None
    if wanted.json_schema is None:
        return served.compile_grammar({"type": "object"}, False, "response_format")
    return served.compile_grammar(wanted.json_schema.definition, bool(wanted.json_schema.strict), param)


def prepare_chat(served: ServedModel, body: bytes) -> Prepared:
    """Check and tokenize a request to /v1/chat/completions.

    Raises:
        RequestError: what is wrong with it.
    """
    request = parse(body, ChatRequest)
    served.check_name(request.model)
    num_logprobs = (request.top_logprobs or 0) if request.logprobs else None
    settings = _settings(served, request, num_logprobs)
    if not served.is_chat:
        line = (
            f"model {served.name} is a base model, it only continues text: ask /v1/completions, "
            "or train it to chat first (scratch-gpt sft)"
        )
        raise RequestError(line, "model")
    if request.top_logprobs is not None and not request.logprobs:
        raise RequestError("top_logprobs: add logprobs: true", "top_logprobs")
    if request.max_completion_tokens is not None:
        if request.max_tokens is not None:
            raise RequestError("max_tokens: its newer name is max_completion_tokens, give one", "max_tokens")
        settings = settings._replace(max_new_tokens=request.max_completion_tokens)
    _at_least_one(request.max_tokens, "max_tokens")
    tools = [tool.model_dump(exclude_none=True) for tool in request.tools or []]
    if tools and not served.renders_tools:
        raise RequestError("tools: this model's chat template renders none", "tools")
    if request.tool_choice == "auto" and not tools:
        raise RequestError("tool_choice: there are no tools", "tool_choice")
    if request.tool_choice == "none":
        tools = []
    if request.response_format is not None:
        settings = settings._replace(grammar=_grammar(served, request.response_format))
    token_ids = served.encode_chat(
        as_template_messages(request.messages, served.renders_tools), tools or None
    )

    def work(emit: Emit, cancelled: threading.Event) -> None:
        for number in range(request.n or 1):
            if cancelled.is_set():
                return
            served.generate(token_ids, settings, number, number, emit, cancelled)

    answer = ChatAnswer(
        served.name, len(token_ids), _with_usage(request), num_logprobs is not None, bool(tools)
    )
    return Prepared(work, answer, bool(request.stream))


def prepare_completion(served: ServedModel, body: bytes) -> Prepared:
    """Check and tokenize a request to /v1/completions.

    Raises:
        RequestError: what is wrong with it.
    """
    request = parse(body, CompletionRequest)
    served.check_name(request.model)
    settings = _settings(served, request, request.logprobs)
    if not request.echo:
        _at_least_one(request.max_tokens, "max_tokens")
    rows = served.encode_texts(request.prompt, "prompt", room=0 if request.max_tokens == 0 else 1)
    count = request.n or 1

    def work(emit: Emit, cancelled: threading.Event) -> None:
        for number, (prompt, token_ids) in enumerate(zip(request.prompt, rows, strict=True)):
            for draw in range(count):
                choice = number * count + draw
                if cancelled.is_set():
                    return
                if request.echo:
                    text = prompt if isinstance(prompt, str) else served.decoder.decode(prompt)
                    asked = settings.num_logprobs
                    tokens = [] if asked is None else served.prompt_tokens(token_ids, asked)
                    emit(Piece(choice, text, tokens, 0, None))
                served.generate(token_ids, settings, choice, draw, emit, cancelled)

    answer = CompletionAnswer(
        served.name, sum(map(len, rows)), _with_usage(request), request.logprobs is not None
    )
    return Prepared(work, answer, bool(request.stream))


def prepare_embeddings(served: ServedModel, body: bytes) -> tuple[Work, int]:
    """Check and tokenize a request to /v1/embeddings; its work emits an entry of the answer for each text, as JSON.

    Raises:
        RequestError: what is wrong with it.
    """
    request = parse(body, EmbeddingRequest)
    served.check_name(request.model)
    rows = served.encode_texts(request.input, "input", room=0)

    def work(emit: Emit, cancelled: threading.Event) -> None:
        for index, token_ids in enumerate(rows):
            if cancelled.is_set():
                return
            vector = served.embed(token_ids)
            in_base64 = request.encoding_format == "base64"
            numbers = base64.b64encode(vector.numpy().tobytes()).decode() if in_base64 else vector.tolist()
            # here, since a large answer in JSON takes a while
            emit(json.dumps({"object": "embedding", "index": index, "embedding": numbers}))

    return work, sum(map(len, rows))


async def read_body(request: Request) -> bytes:
    """The body of a request of JSON.

    Raises:
        RequestError: another content type, or more than MAX_BODY_BYTES: the rest is read and dropped, so that
            the client reads the answer.
    """
    # A page of another site can send any other type without asking first (CORS).
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the Content-Type must be application/json")
    body, size = bytearray(), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= MAX_BODY_BYTES:
                body += chunk
    except ClientDisconnect:  # nobody reads the answer
        raise RequestError("the body broke off") from None
    if size > MAX_BODY_BYTES:
        raise RequestError(f"the body has {size} bytes, the most are {MAX_BODY_BYTES}", status=413)
    return bytes(body)


def make_app(folder: str | Path, api_key: str | None = None) -> FastAPI:
    """The application on the model in `folder`, known to requests by the folder's name.

    Args:
        api_key: what requests must bring, as `Authorization: Bearer KEY`; None: nothing.

    Raises:
        UserError: no language model, or no tokenizer, in the folder.
    """
    served, queue = ServedModel(folder), GenerationQueue()
    created = int(time.time())

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    # Their pages load scripts from elsewhere, and describe requests that are not parsed by FastAPI.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if api_key is not None:
        app.add_middleware(_KeyCheck, api_key=api_key)

    async def answer(request: Request, prepare: Any) -> Response:
        prepared: Prepared = await queue.prepare(prepare, served, await read_body(request))
        pieces = queue.run(prepared.work, request.receive)
        if prepared.stream:
            return StreamingResponse(prepared.answer.stream(pieces), media_type="text/event-stream")
        return JSONResponse(await prepared.answer.whole(pieces))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [await model(served.name)]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        served.check_name(name)
        return {"id": served.name, "object": "model", "created": created, "owned_by": "scratch-gpt"}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await answer(request, prepare_chat)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answer(request, prepare_completion)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        work, count = await queue.prepare(prepare_embeddings, served, await read_body(request))
        rows = [row async for row in queue.run(work, request.receive)]
        rest = {"model": served.name, "usage": {"prompt_tokens": count, "total_tokens": count}}
        content = f'{{"object": "list", "data": [{", ".join(rows)}], {json.dumps(rest)[1:]}'
        return Response(content, media_type="application/json")

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 429 else None
        return JSONResponse(error.body(), error.status, headers)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        line = f"{request.method} {request.url.path[:100]} is not served here, only {ROUTES}"
        body = RequestError(line, status=error.status_code).body()
        return JSONResponse(body, error.status_code, error.headers)  # a 405 says what is allowed

    @app.exception_handler(Exception)  # starlette logs it with its traceback
    async def apologize(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            RequestError(f"the server failed: {type(error).__name__}", status=500).body(), 500
        )

    return app


class _KeyCheck:
    """ASGI middleware: requests to /v1 need the key."""

    def __init__(self, app: Any, api_key: str) -> None:
        self.app, self.expected = app, f"Bearer {api_key}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(given) != 1 or not hmac.compare_digest(given[0], self.expected):
                error = RequestError("the API key is missing or wrong", status=401, code="invalid_api_key")
                response = JSONResponse(error.body(), 401, {"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


def serve_model(folder: str, host: str, port: int, api_key: str | None = None) -> None:
    """Answer requests for the model in `folder` until Ctrl-C.

    Raises:
        UserError: no model in the folder, the port is in use, or the API key is empty.
    """
    if api_key is not None and not (
        api_key.isascii() and api_key.split() == [api_key]
    ):  # headers arrive stripped
        raise wrong_value("api_key", "...", "a word of ASCII characters", where="--")
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # else a warning a request; the server's own log stays
    listener = listen(host, port)  # first: loading a model takes a while
    with listener:
        app = make_app(folder, api_key)
        name, port = Path(folder).resolve().name, listener.getsockname()[1]
        announcement = f"{folder} answers to the name {name!r} at http://{host}:{port}/v1 (Ctrl-C ends)"
        run_server(app, listener, host, announcement)
