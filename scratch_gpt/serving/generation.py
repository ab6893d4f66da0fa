# SPDX-License-Identifier: Apache-2.0
"""The model that a server answers with: token ids in, pieces of text with log-probabilities out.

Nothing here knows of HTTP. `generate` and `embed` run in one thread, `encode_texts` and `encode_chat` in another: each has
its own tokenizer, since a fast tokenizer raises "Already borrowed" when two threads change its padding
(huggingface/tokenizers#537).
"""

import copy
import json
import math
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError
from tokenizers import decoders
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor, StoppingCriteria

from scratch_gpt.inference.generation import REPLACEMENT, begin_ids, without_half_character
from scratch_gpt.inference.loading import load_config, load_model
from scratch_gpt.inference.masked import load_masked_model
from scratch_gpt.inference.sampling import LEAST_TEMPERATURE, chat_limit
from scratch_gpt.inference.turns import is_chat, stop_ids
from scratch_gpt.serving.inspection import BYTE_OF
from scratch_gpt.serving.protocol import RequestError
from scratch_gpt.serving.tool_calls import renders_tools
from scratch_gpt.tokenization import encode_plain


# xgrammar's time grows with more than the square of a schema's size, and nothing interrupts it.
MAX_SCHEMA_CHARACTERS = 8_000


class Token(NamedTuple):
    """A token as log-probabilities show it; `top` holds the likeliest ones at its position."""

    text: str
    raw: list[int] | None  # its bytes, where the tokenizer says
    logprob: float | None  # None for the first token of a text
    top: list["Token"]


class Piece(NamedTuple):
    """A part of choice `choice`; the last one has a `finish_reason`: "stop" or "length"."""

    choice: int
    text: str
    tokens: list[Token]
    num_tokens: int  # generated so far
    finish_reason: str | None


class Settings(NamedTuple):
    """How one request's answers are drawn; None is what the folder's generation config says.

    Args:
        max_new_tokens: None: as the generation config says, else up to the end of the context.
        temperature: 0 takes the likeliest token.
        stop: texts that end the answer and are not in it.
        seed: of the first answer to a prompt; the others have the following ones.
        num_logprobs: this many of the most likely tokens beside each one; None: no log-probabilities.
        grammar: what xgrammar compiled.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    num_logprobs: int | None = None
    grammar: Any = None


class _Recorder(LogitsProcessor):
    """Keeps the model's own log-probabilities of the next token, before anything changes them."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.logprobs = scores[0].float().log_softmax(-1)
        return scores


class _Adjusted(LogitsProcessor):
    """OpenAI's penalties, which count generated tokens only, and its logit bias."""

    def __init__(self, settings: Settings, prompt_length: int) -> None:
        self.settings, self.prompt_length = settings, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(input_ids[0, self.prompt_length :], minlength=scores.shape[1])
        scores = scores - self.settings.frequency_penalty * counts
        scores = scores - self.settings.presence_penalty * (counts > 0)
        for index, bias in (self.settings.logit_bias or {}).items():
            scores[0, index] += bias
        return scores


class _Answer(StoppingCriteria):
    """One choice as it forms: hands on whole characters, never the beginning of a stop text."""

    def __init__(
        self,
        model: "ServedModel",
        settings: Settings,
        emit: Callable[[str, list[Token], int], None],
        cancelled: threading.Event,
        recorder: _Recorder | None,
    ) -> None:
        self.model, self.settings, self.emit, self.cancelled = model, settings, emit, cancelled
        self.recorder = recorder
        self.token_ids: list[int] = []
        self.text, self.shown, self.stopped = "", 0, False
        self.held: list[tuple[int, Token]] = []  # with the position in the text where each begins
        self.hold = max((len(text) - 1 for text in settings.stop), default=0)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self.cancelled.is_set():
            self.take(int(input_ids[0, -1]))
        over = self.stopped or self.cancelled.is_set()
        return torch.full((input_ids.shape[0],), over, device=input_ids.device)

    def take(self, index: int) -> None:
        """Add a token."""
        self.token_ids.append(index)
        if index in self.model.stop_ids:
            self.stopped = True
            return
        if self.recorder is not None:
            token = self.model.token(index, self.recorder.logprobs, self.settings.num_logprobs or 0)
            self.held.append((len(self.text), token))
        self.text = self.model.decoder.decode(self.token_ids, skip_special_tokens=True)
        found = [at for text in self.settings.stop if (at := self.text.find(text)) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True
            self.held = [(start, token) for start, token in self.held if start < len(self.text)]
        elif not self.text.endswith(REPLACEMENT):  # at the end it is half a character
            self.show(len(self.text) - self.hold)

    def show(self, end: int) -> None:
        """Hand on the text up to `end`."""
        if end > self.shown:
            tokens = [token for start, token in self.held if start < end]
            self.held = self.held[len(tokens) :]
            self.emit(self.text[self.shown : end], tokens, len(self.token_ids))
            self.shown = end


class ServedModel:
    """The model in `folder`, known to requests by the folder's name.

    Raises:
        UserError: no causal or masked language model, or no tokenizer, in the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        kinds = load_config(folder).architectures or []
        self.generates = not any(kind.endswith("ForMaskedLM") for kind in kinds)
        self.model, self.tokenizer = (load_model if self.generates else load_masked_model)(folder)
        self.decoder = copy.deepcopy(self.tokenizer)
        self.name = Path(folder).resolve().name
        self.is_chat = self.generates and is_chat(self.tokenizer)
        self.context: int = self.model.config.max_position_embeddings
        self.vocab_size: int = self.model.config.vocab_size
        self.control_ids = {
            index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special
        }
        self.renders_tools = self.is_chat and renders_tools(self.tokenizer)
        generation_config = self.model.generation_config if self.generates else None
        self.stop_ids = stop_ids(self.tokenizer, generation_config)
        byte_level = isinstance(self.tokenizer.backend_tokenizer.decoder, decoders.ByteLevel)
        self.bytes_of = BYTE_OF if byte_level else {}
        # Of bytes no token holds more than the longest; twice that, since Unicode normalization may shorten a text.
        longest = max(map(len, self.tokenizer.get_vocab()))
        self.most_characters = 2 * longest * self.context if byte_level else math.inf
        self.grammars: Any = None  # xgrammar's compiler, once it is needed

    def check_name(self, name: str) -> None:
        """Raise RequestError if a request names another model."""
        if name != self.name:
            line = f"model {name[:100]!r} is not served here, only {self.name!r}"
            raise RequestError(line, "model", 404, "model_not_found")

    def encode_texts(self, texts: list[str] | list[list[int]], param: str, room: int) -> list[list[int]]:
        """Token ids of texts, in which the spelling of a control token is plain text; ids are checked.

        Args:
            room: tokens that follow in the context, at least.

        Raises:
            RequestError: an empty or too long text, an id out of range or of a control token.
        """
        rows = [row for row in texts if isinstance(row, list)]
        for row in rows:
            for index in row:
                if not 0 <= index < min(len(self.tokenizer), self.vocab_size):
                    raise RequestError(f"{param}: there is no token {index}", param)
                if index in self.control_ids:
                    raise RequestError(f"{param}: token {index} is a control token, give text tokens", param)
        if not rows:
            plain = [text for text in texts if isinstance(text, str)]
            self.check_size(max(map(len, plain)), param)
            begin = begin_ids(self.tokenizer)
            rows = [begin + ids for ids in encode_plain(self.tokenizer, plain)]
        for row in rows:
            self.check_length(row, param, room)
        return rows

    def encode_chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of a conversation, up to the answer.

        Raises:
            RequestError: a conversation that the chat template refuses, or one that is too long.
        """
        self.check_size(sum(len(message["content"]) for message in messages), "messages")
        try:
            token_ids: list[int] = self.tokenizer.apply_chat_template(
                messages,
                tools=tools,
                add_generation_prompt=True,
                return_dict=True,
                tokenizer_kwargs={"verbose": False},
            )["input_ids"]
        except TemplateError as error:
            raise RequestError(f"messages: {' '.join(str(error).split())}", "messages") from None
        self.check_length(token_ids, "messages", room=1)
        return token_ids

    def compile_grammar(self, schema: dict[str, Any], strict: bool, param: str) -> Any:
        """What keeps an answer to a JSON schema; `strict`: objects hold the listed properties only.

        Raises:
            RequestError: xgrammar is not installed, or cannot read the schema.
        """
        try:
            import xgrammar
        except ImportError:
            line = 'response_format: JSON needs one more package here: pip install "scratch-gpt[json]"'
            raise RequestError(line, "response_format") from None
        written = json.dumps(schema)
        if len(written) > MAX_SCHEMA_CHARACTERS:
            line = f"{param}: {len(written)} characters, the most are {MAX_SCHEMA_CHARACTERS}"
            raise RequestError(line, param)
        if self.grammars is None:
            info = xgrammar.TokenizerInfo.from_huggingface(
                self.tokenizer, vocab_size=self.vocab_size, stop_token_ids=sorted(self.stop_ids)
            )
            self.grammars = xgrammar.GrammarCompiler(info, max_threads=1)
        try:
            # No free white space: a small model would write it to the end of the context.
            return self.grammars.compile_json_schema(written, any_whitespace=False, strict_mode=strict)
        except RuntimeError as error:
            reason = re.sub(r"^\[[\d:]+\] \S+: ", "", " ".join(str(error).split()))[:200]
            raise RequestError(f"{param}: {reason}", param) from None

    def check_size(self, num_characters: int, param: str) -> None:
        """Raise RequestError for text that cannot fit the context, before the work of tokenizing it."""
        if num_characters > self.most_characters:
            line = f"{param}: {num_characters} characters, the model's context is {self.context} tokens: shorten the text"
            raise RequestError(line, param, code="context_length_exceeded")

    def check_length(self, token_ids: list[int], param: str, room: int) -> None:
        """Raise RequestError for no tokens, or more than the context holds beside `room` others."""
        if not token_ids:
            raise RequestError(f"{param}: the text is empty", param)
        if len(token_ids) > self.context - room:
            line = (
                f"{param}: {len(token_ids)} tokens, the model's context is {self.context}: shorten the text"
            )
            raise RequestError(line, param, code="context_length_exceeded")

    def token(self, index: int, logprobs: torch.Tensor | None, num_top: int) -> Token:
        """A token with its log-probability and the likeliest ones of its position."""
        text = self.decoder.decode([index])
        spelled = self.decoder.convert_ids_to_tokens(index) or ""  # a row of the vocabulary without a token
        raw: list[int] | None = list(text.encode())
        if index not in self.control_ids and all(char in self.bytes_of for char in spelled):
            raw = [self.bytes_of[char] for char in spelled]
        elif REPLACEMENT in text:
            raw = None
        if logprobs is None:
            return Token(text, raw, None, [])
        top = logprobs.topk(num_top)
        likeliest = [
            self.token(other, None, 0)._replace(logprob=value)
            for value, other in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]
        return Token(text, raw, logprobs[index].item(), likeliest)

    @torch.inference_mode()
    def prompt_tokens(self, token_ids: list[int], num_top: int) -> list[Token]:
        """The tokens of a prompt, each with its log-probability after those before it."""
        logits = self.model(torch.tensor([token_ids], device=self.model.device)).logits[0, :-1]
        rows = logits.float().log_softmax(-1)
        later = [self.token(index, row, num_top) for index, row in zip(token_ids[1:], rows, strict=True)]
        return [self.token(token_ids[0], None, 0), *later]

    def generate(
        self,
        token_ids: list[int],
        settings: Settings,
        choice: int,
        draw: int,
        emit: Callable[[Piece], None],
        cancelled: threading.Event,
    ) -> None:
        """Write choice `choice` behind `token_ids`, piece by piece; ends soon after `cancelled` is set.

        It is draw `draw` from this prompt, counted from 0.

        The random state is set here, in the one thread that draws: a seed gives one answer, whatever else is asked.
        """
        room = self.context - len(token_ids)
        limit = settings.max_new_tokens
        if limit is None:
            limit = chat_limit(self.model.generation_config) or room
        recorder = None if settings.num_logprobs is None else _Recorder()

        def hand_on(text: str, tokens: list[Token], num_tokens: int) -> None:
            emit(Piece(choice, text, tokens, num_tokens, None))

        answer = _Answer(self, settings, hand_on, cancelled, recorder)
        if limit > 0:
            seed = secrets.randbits(63) if settings.seed is None else (settings.seed + draw) % 2**63
            torch.manual_seed(seed)
            inputs = torch.tensor([token_ids], device=self.model.device)
            self.model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                generation_config=self._generation_config(settings, min(limit, room)),
                logits_processor=self._processors(settings, len(token_ids), recorder),
                stopping_criteria=[answer],
            )
        tokens = [token for _, token in answer.held]
        finish_reason, text = (
            ("stop", answer.text) if answer.stopped else ("length", without_half_character(answer.text))
        )
        emit(Piece(choice, text[answer.shown :], tokens, len(answer.token_ids), finish_reason))

    def _processors(
        self, settings: Settings, prompt_length: int, recorder: _Recorder | None
    ) -> list[LogitsProcessor]:
        processors: list[LogitsProcessor] = [] if recorder is None else [recorder]
        # Not by the generation config, whose penalties come before the recorder.
        if penalty := self.model.generation_config.repetition_penalty:
            processors.append(RepetitionPenaltyLogitsProcessor(penalty))
        if settings.frequency_penalty or settings.presence_penalty or settings.logit_bias:
            processors.append(_Adjusted(settings, prompt_length))
        if settings.grammar is not None:
            from xgrammar.contrib.hf import LogitsProcessor as GrammarProcessor

            processors.append(GrammarProcessor(settings.grammar))
        return processors

    def _generation_config(self, settings: Settings, max_new_tokens: int) -> Any:
        """The folder's generation config with the request's values; one sequence, which can be streamed."""
        config = copy.deepcopy(self.model.generation_config)
        temperature = settings.temperature
        if temperature is None:
            said = 1.0 if config.temperature is None else config.temperature
            temperature = 0.0 if config.do_sample is False else said
        top_p = config.top_p if settings.top_p is None else settings.top_p
        # Greedy, what shapes sampling is at its neutral value, else `generate` warns. Without a word of the folder,
        # all tokens are sampled from, as in OpenAI's server; transformers' own default is the 50 likeliest.
        sampling: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
        if temperature >= LEAST_TEMPERATURE:
            sampling = {
                "do_sample": True,
                "temperature": temperature,
                "top_k": config.top_k or 0,
                "top_p": 1.0 if top_p is None else top_p,
            }
        config.update(
            **sampling,
            repetition_penalty=1.0,
            max_new_tokens=max_new_tokens,
            max_length=None,
            num_beams=1,
            num_return_sequences=1,
            return_dict_in_generate=False,
            eos_token_id=sorted(self.stop_ids) or None,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return config

    @torch.inference_mode()
    def embed(self, token_ids: list[int]) -> torch.Tensor:
        """The mean of the last hidden states over the tokens of a text, at length 1: shape (hidden_size,)."""
        inputs = torch.tensor([token_ids], device=self.model.device)
        states = self.model.base_model(inputs, attention_mask=torch.ones_like(inputs)).last_hidden_state
        return torch.nn.functional.normalize(states[0].float().mean(0), dim=0).cpu()
