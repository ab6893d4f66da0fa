# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt serve`: the OpenAI-compatible server of `transformers serve`, on one local folder.

The stock command refuses classes from outside transformers, and opens whatever model a request names, from the Hub
too. Here it gets one model that is loaded already, which requests know by the name of its folder.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import logging
from transformers.utils.import_utils import is_serve_available

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.runner import is_chat, load_model
from scratch_gpt.serving.listening import listen, run_server
from scratch_gpt.tokenization import escape


if not is_serve_available():
    raise UserError(
        "missing_package",
        "serving needs more packages: pip install 'scratch-gpt[serve]'",
        package="scratch-gpt[serve]",
    )

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.server import build_server
from transformers.cli.serving.systemone import SystemOneHandler
from transformers.cli.serving.transcription import TranscriptionHandler
from transformers.cli.serving.utils import GenerateManager, GenerationState


class OneModel(ModelManager):
    """The server's store of models, holding `model` under `name`; no request can make it open another."""

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.force_model = name  # the one that requests may name; as an argument it would be loaded here
        self.model, self.tokenizer = model, tokenizer
        self.created = int(time.time())

    @staticmethod
    def process_model_name(model_id: str) -> str:
        """The name as it is: a local folder has no revision."""
        return model_id

    def load_model_and_processor(
        self, model_id: str, progress_callback: Callable | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """The model and its tokenizer.

        Raises:
            UserError: any other name.
        """
        if model_id != self.force_model:
            raise UserError(
                "wrong_value",
                f"model {model_id!r} is not served here, only {self.force_model!r}",
                setting="model",
                value=model_id,
            )
        if progress_callback is not None:
            progress_callback({"status": "ready", "model": model_id, "cached": True})
        return self.model, self.tokenizer

    def get_gen_models(self) -> list[dict[str, Any]]:
        """What `/v1/models` lists: the model served, not the Hub's cache."""
        return [
            {"id": self.force_model, "object": "model", "created": self.created, "owned_by": "scratch-gpt"}
        ]


class FittingGeneration(GenerateManager):
    """One answer after the other, none longer than the model's context has room for."""

    def generate_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """As the stock server does it, after `fit`."""
        fit(model, inputs, gen_config)
        return super().generate_streaming(model, processor, inputs, gen_config, *args, **kwargs)

    async def generate_non_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """As the stock server does it, after `fit`."""
        fit(model, inputs, gen_config)
        return await super().generate_non_streaming(model, processor, inputs, gen_config, *args, **kwargs)


def fit(model: Any, inputs: Any, gen_config: Any) -> None:
    """Cut `max_new_tokens` to the room behind the prompt: later positions were never trained, or do not exist.

    Raises:
        UserError: an empty prompt, one that fills the context, or an answer of no tokens.
    """
    prompt, context = inputs["input_ids"].shape[1], model.config.max_position_embeddings
    if prompt == 0:
        raise UserError("empty_text", "the prompt is empty")
    if prompt >= context:
        raise UserError(
            "too_long",
            f"the prompt is {prompt} tokens, the model's context {context}: shorten it",
            length=prompt,
            limit=context,
        )
    if gen_config.max_new_tokens < 1:
        raise UserError(
            "wrong_value",
            f"max_tokens must be at least 1, got {gen_config.max_new_tokens}",
            setting="max_tokens",
            value=gen_config.max_new_tokens,
        )
    gen_config.max_new_tokens = min(gen_config.max_new_tokens, context - prompt)


class OneGeneration(GenerationState):
    """The server's state of generation: one queue."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = FittingGeneration()

    def get_manager(self, model_id: str, use_cb: bool = False) -> GenerateManager:
        """The queue that all requests share."""
        return self.manager


class PlainCompletionHandler(CompletionHandler):
    """/v1/completions; the spelling of a special token in a prompt is plain text, as everywhere here."""

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        """As the stock server does it, with a prompt that is escaped."""
        if isinstance(body.get("prompt"), str):
            body = {**body, "prompt": escape(body["prompt"])}
        return await super().handle_request(body, request_id)


class ChatOnly:
    """For handlers that write the chat template: a base model is refused, it would only continue the template."""

    def _resolve_model(self, body: dict[str, Any]) -> tuple[str, Any, Any]:
        # among them is the template itself, and one of the request's could write special tokens
        if body.get("chat_template_kwargs"):
            raise UserError(
                "setting_without_effect",
                "chat_template_kwargs: the chat template takes none, leave them out",
                setting="chat_template_kwargs",
            )
        name, model, tokenizer = super()._resolve_model(body)  # type: ignore[misc]
        if not is_chat(tokenizer):
            raise UserError(
                "base_model",
                f"{name} is a base model, it only continues text: ask /v1/completions, "
                "or train it to chat first (scratch-gpt sft)",
                model=name,
            )
        return name, model, tokenizer


class ChatHandler(ChatOnly, ChatCompletionHandler):
    """/v1/chat/completions"""


class ChatResponseHandler(ChatOnly, ResponseHandler):
    """/v1/responses"""


def make_app(folder: str | Path) -> FastAPI:
    """The stock server's application on the model in `folder`, known to requests by the folder's name.

    As in other servers of this interface, an answer is sampled, as the folder's generation config says, unless the
    request has temperature 0. A bad request is answered with status 400 and one line.

    Raises:
        UserError: no causal language model, or no tokenizer, in the folder.
    """
    model, tokenizer = load_model(folder)
    model.generation_config.do_sample = True
    models, generation = OneModel(Path(folder).resolve().name, model, tokenizer), OneGeneration()
    app = build_server(
        models,
        ChatHandler(models, generation),
        completion_handler=PlainCompletionHandler(models, generation),
        response_handler=ChatResponseHandler(models, generation),
        transcription_handler=TranscriptionHandler(models, generation),
        systemone_handler=SystemOneHandler(models, generation),
        generation_state=generation,
    )

    @app.exception_handler(HTTPException)
    @app.exception_handler(KeyError)
    @app.exception_handler(ValueError)
    async def refuse(request: Request, error: Exception) -> JSONResponse:
        status, message = 400, str(error)
        if isinstance(error, HTTPException):
            status, message = error.status_code, error.detail
        elif isinstance(error, KeyError):
            message = f"the request lacks {error}"
        return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)

    return app


def serve_model(folder: str, host: str, port: int) -> None:
    """Answer requests for the model in `folder` until Ctrl-C.

    Raises:
        UserError: no model in the folder, or the port is in use.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # else a warning a request; the server's own log stays
    listener = listen(host, port)  # first: loading a model takes a while
    with listener:
        app = make_app(folder)
        name, port = Path(folder).resolve().name, listener.getsockname()[1]
        run_server(
            app, listener, f"{folder} answers to the name {name!r} at http://{host}:{port}/v1 (Ctrl-C ends)"
        )
