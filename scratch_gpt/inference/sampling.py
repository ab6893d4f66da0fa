# SPDX-License-Identifier: Apache-2.0
"""How the next token is drawn when a model talks."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from scratch_gpt.errors import wrong_value


# A key of our own in generation_config.json: how long an answer is where nobody says, in our chat and our server alone.
# A saved `max_new_tokens` outranks the `max_length` of whoever calls `generate`, as lm-eval does; vLLM caps all requests at
# it where the folder is given as --generation-config.
CHAT_LIMIT = "chat_max_new_tokens"
# Below it sampling is greedy: a division by less makes infinities of scores.
LEAST_TEMPERATURE = 1e-5


def chat_limit(generation_config: Any) -> int | None:
    """The longest answer that a folder's `generation_config` asks for; None: it says nothing."""
    return generation_config.max_new_tokens or getattr(generation_config, CHAT_LIMIT, None)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: 0 takes the likeliest token, more samples.
        top_p: sample from the likeliest tokens that together have this probability; 1: from all.
        top_k: sample from this many most likely tokens; 0: from all.
        max_new_tokens: longest answer; more than half of the context is cut to that.

    Raises:
        UserError: a value out of its range.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    max_new_tokens: int = 200

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("temperature", self.temperature >= 0, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
        ):
            if not fits:
                raise wrong_value(name, getattr(self, name), wanted)

    @classmethod
    def of(cls, generation_config: Any) -> "Sampling":
        """What a folder's `generation_config` says; where it is silent, the defaults here, which sample."""
        said = {name: getattr(generation_config, name) for name in asdict(cls())}
        said["max_new_tokens"] = chat_limit(generation_config)
        if generation_config.do_sample:
            said["temperature"] = 1.0 if said["temperature"] is None else said["temperature"]
        else:
            said["temperature"] = None if generation_config.do_sample is None else 0.0
        return cls(**{name: value for name, value in said.items() if value is not None})

    def changed(self, **values: Any) -> "Sampling":
        """These settings with the `values` that are not None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def arguments(self) -> dict[str, Any]:
        """The same for `generate`. Greedy, what shapes sampling is at its neutral value, else `generate` warns."""
        if self.temperature >= LEAST_TEMPERATURE:
            return {"do_sample": True, **asdict(self)}
        return {**asdict(Sampling(1.0)), "do_sample": False, "max_new_tokens": self.max_new_tokens}
