# SPDX-License-Identifier: Apache-2.0
"""What requests may hold: OpenAI's parameters, each of them served or refused by name, never ignored.

The reference is https://platform.openai.com/docs/api-reference. `null` means "not given", as it does there; a parameter
that is not served has the type None here.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from scratch_gpt.errors import UserError


MAX_CHOICES = 16
MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20
MAX_TEXTS = 2048
LARGEST_INTEGER = 2**63 - 1


class RequestError(UserError):
    """A request that is answered with an error: one line, the parameter at fault, the status."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__("bad_request", message)
        self.param, self.status, self.openai_code = param, status, code

    def body(self) -> dict[str, Any]:
        """The answer's JSON, in OpenAI's form."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {"message": str(self), "type": kind, "param": self.param, "code": self.openai_code},
        }


def _texts(value: Any, what: str, longest: int) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"must be {what}")
    if not 1 <= len(texts) <= longest:
        raise ValueError(f"takes 1 to {longest} texts, got {len(texts)}")
    return texts


def _stop(value: Any) -> list[str] | None:
    if value is None:
        return None
    texts = _texts(value, "a text or a list of texts", MAX_STOPS)
    if not all(texts):
        raise ValueError("an empty text stops nothing")
    return texts


def _prompts(value: Any) -> list[str] | list[list[int]]:
    """One text, several, token ids, or several lists of them -> a list of texts or of lists of token ids."""
    rows = [value] if isinstance(value, list) and value and type(value[0]) is int else value
    if isinstance(rows, list) and rows and isinstance(rows[0], list):
        if len(rows) > MAX_TEXTS:
            raise ValueError(f"takes 1 to {MAX_TEXTS} texts, got {len(rows)}")
        if not all(isinstance(row, list) and all(type(index) is int for index in row) for row in rows):
            raise ValueError("a list of token ids holds integers only")
        return rows
    return _texts(value, "a text, a list of texts, or token ids", MAX_TEXTS)


def _content(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text or a list of text parts")
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise ValueError('must be a text or a list of parts such as {"type": "text", "text": "..."}')
        if kind != "text":
            raise ValueError(f"a part of type {kind[:40]!r} is not served, only text is")
        if part.keys() != {"type", "text"} or not isinstance(part["text"], str):
            raise ValueError('a text part is {"type": "text", "text": "..."}')
    return "".join(part["text"] for part in value)


def _logit_bias(value: Any) -> dict[int, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("must be an object of token ids and numbers from -100 to 100")
    bias = {}
    for key, number in value.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise ValueError(f"{key[:40]!r} is not a token id")
        if type(number) not in (int, float) or not -100 <= number <= 100:
            raise ValueError(f"the bias of token {key} must be a number from -100 to 100")
        bias[int(key)] = float(number)
    return bias


def _number(least: float, most: float) -> BeforeValidator:
    """A number in this range, or None."""

    def check(value: Any) -> float | None:
        if value is None:
            return None
        if type(value) not in (int, float) or not least <= value <= most:  # nor NaN
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return float(value)

    return BeforeValidator(check)


def _integer(least: int, most: int = LARGEST_INTEGER) -> BeforeValidator:
    """An integer in this range, or None."""

    def check(value: Any) -> int | None:
        if value is not None and (type(value) is not int or not least <= value <= most):
            bound = f"from {least}" if most == LARGEST_INTEGER else f"from {least} to {most}"
            raise ValueError(f"must be an integer {bound}")
        return value

    return BeforeValidator(check)


Text = Annotated[str, Field(max_length=512)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        # pydantic's own extra="forbid" writes an error for each of perhaps 100,000 names
        if isinstance(values, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            if unknown := values.keys() - known:
                raise ValueError(f"unknown parameter {min(unknown)[:80]!r}")
        return values


class FunctionCall(_Strict):
    """What a model asked a tool for; `arguments` is JSON in a string."""

    name: Text
    arguments: str


class ToolCall(_Strict):
    """A tool call in the assistant's message."""

    id: Text
    type: Literal["function"]
    function: FunctionCall


class Message(_Strict):
    """A message of a conversation. What OpenAI's client writes beside the text of an answer may be null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_content)] = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=128, fail_fast=True)] | None = None
    tool_call_id: Text | None = None
    name: None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: None = None


class StreamOptions(_Strict):
    """`include_usage` adds a last chunk with the token counts."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class FunctionDefinition(_Strict):
    """A function that the model may ask for."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Literal[False] | None = None


class Tool(_Strict):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionDefinition


class JsonSchema(_Strict):
    """The schema of `response_format` json_schema."""

    name: Text
    description: str | None = None
    # `schema` is taken by pydantic's BaseModel.
    definition: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Strict):
    """What an answer must be: any text, a JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class _Named(_Strict):
    """Every request names the model. Who asks has no effect on the answer, and none is recorded."""

    model: str
    user: str | None = None


class SamplingRequest(_Named):
    """What /v1/chat/completions and /v1/completions share."""

    temperature: Annotated[float | None, _number(0, 2)] = None
    top_p: Annotated[float | None, _number(0, 1)] = None
    frequency_penalty: Annotated[float | None, _number(-2, 2)] = None
    presence_penalty: Annotated[float | None, _number(-2, 2)] = None
    logit_bias: Annotated[dict[int, float] | None, BeforeValidator(_logit_bias)] = None
    max_tokens: Annotated[int | None, _integer(0)] = None
    n: Annotated[int | None, _integer(1, MAX_CHOICES)] = None
    seed: Annotated[int | None, _integer(-LARGEST_INTEGER)] = None
    stop: Annotated[list[str] | None, BeforeValidator(_stop)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(SamplingRequest):
    """POST /v1/chat/completions"""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000, fail_fast=True)]
    max_completion_tokens: Annotated[int | None, _integer(1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, _integer(0, MAX_TOP_LOGPROBS)] = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Literal[True] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: list[Literal["text"]] | None = None
    audio: None = None
    function_call: None = None
    functions: None = None
    metadata: None = None
    moderation: None = None
    prediction: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None


class CompletionRequest(SamplingRequest):
    """POST /v1/completions"""

    prompt: Annotated[list[str] | list[list[int]], BeforeValidator(_prompts)]
    echo: bool | None = None
    logprobs: Annotated[int | None, _integer(0, MAX_TOP_LOGPROBS)] = None
    best_of: Annotated[int | None, _integer(1, 1)] = None
    suffix: None = None


class EmbeddingRequest(_Named):
    """POST /v1/embeddings"""

    input: Annotated[list[str] | list[list[int]], BeforeValidator(_prompts)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: None = None


Schema = TypeVar("Schema", bound=_Named)


def parse(body: bytes, schema: type[Schema]) -> Schema:
    """The request in a body of JSON.

    Raises:
        RequestError: no JSON, or an unknown, missing or wrong parameter: the first one is named.
    """
    try:
        # Refuses lone surrogates (which no tokenizer takes) and JSON deeper than 200 levels.
        values = from_json(body)
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise RequestError("the body must be a JSON object")
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _explained(error) from None


def _explained(error: ValidationError) -> RequestError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part)[:80] for part in first["loc"])
    kind = first["type"]
    if kind == "missing":
        line = "is missing"
    elif kind == "none_required":
        line = "is not served here, leave it out"
    elif kind == "value_error":
        line = str(first["ctx"]["error"])
    else:
        message = first["msg"].partition("should ")[2]
        shown = "" if isinstance(first["input"], (dict, list)) else f", got {str(first['input'])[:40]!r}"
        line = f"should {message}{shown}" if message else first["msg"]
    return RequestError(f"{name}: {line}" if name else line, name or None)
