# SPDX-License-Identifier: Apache-2.0
"""The models that are considered for a user's text, and what follows from a model's size and its text by rule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.runs.cost import count_parameters, training_flops_per_token
from scratch_gpt.settings.hardware import device_type


HEAD_DIM = 64
# Width and depth grow together, from the shapes that were tuned here (train/configs/shakespeare and real) to `medium`'s.
WIDTHS_AND_DEPTHS = (
    *((64, 1), (64, 2), (128, 1), (128, 2), (128, 4), (192, 3), (192, 5), (256, 4), (256, 6), (320, 5)),
    *((384, 6), (448, 7), (512, 8), (640, 10), (768, 12), (1024, 16)),
)
# Tokens of a block by parameters outside the embeddings, below which: small models use little of a long context.
CONTEXTS = ((1.5e6, 128), (6e6, 256), (math.inf, 512))
VOCAB_SIZES = (1024, 2048, 4096, 8192, 16384, 32768)
# Of the characters in a text, this share should have room in the vocabulary: scripts with thousands need more.
KNOWN_CHARACTERS = 0.98
BYTES_AND_SPECIAL_TOKENS = 320
# Muon's peak rate was tuned at three million parameters and at 0.2 million (train/configs/shakespeare).
TUNED_RATE, TUNED_PARAMETERS, RATE_EXPONENT, LARGEST_RATE = 1e-2, 3e6, 0.4, 2.5e-2
# Decay of the weights by passes over the text: 0.5 was tuned at four passes, and models that read a text often want much
# more than usual (Kim et al. 2025, hf.co/papers/2509.14786).
LEAST_DECAY, DECAY_A_PASS, LARGEST_DECAY = 0.1, 0.125, 1.5


@dataclass(frozen=True)
class Shape:
    """A model that may be trained.

    Args:
        hidden_size, num_hidden_layers: width and depth.
        vocab_size: of the tokenizer.
        least_context: tokens of a block, at least.
    """

    hidden_size: int
    num_hidden_layers: int
    vocab_size: int
    least_context: int = 0

    @cached_property
    def parameters(self) -> Mapping[str, int]:
        """Parameters by part."""
        return count_parameters(self._config(128))

    @property
    def size(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())

    @property
    def inner(self) -> int:
        """Parameters outside the embeddings."""
        return self.parameters["attention"] + self.parameters["mlp"] + self.parameters["norms"]

    @property
    def context(self) -> int:
        """Tokens of a block."""
        by_size = next(context for limit, context in CONTEXTS if self.inner < limit)
        return max(by_size, self.least_context)

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of training on one token."""
        return sum(training_flops_per_token(self.config, self.context).values())

    @property
    def config(self) -> ScratchGPTConfig:
        """The model's configuration."""
        return self._config(self.context)

    def model_config(self) -> dict[str, Any]:
        """What a pretraining YAML says of the model."""
        heads = self.hidden_size // HEAD_DIM
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": self.context,
        }

    def _config(self, context: int) -> ScratchGPTConfig:
        heads = self.hidden_size // HEAD_DIM
        return ScratchGPTConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=context,
        )

    def learning_rate(self) -> float:
        """Muon's peak rate."""
        rate = TUNED_RATE * (TUNED_PARAMETERS / self.inner) ** RATE_EXPONENT
        return float(f"{min(rate, LARGEST_RATE):.2g}")


def attention() -> str:
    """The attention of a short context: on a CPU plain matrix products are the fastest."""
    return "eager" if device_type() == "cpu" else "auto"


def shapes(vocab_size: int, least_context: int) -> list[Shape]:
    """All models that are considered, the smallest first."""
    return [Shape(width, depth, vocab_size, least_context) for width, depth in WIDTHS_AND_DEPTHS]


def choose_vocab_size(text_bytes: int, characters: Mapping[str, int]) -> int:
    """The vocabulary for a text: about the root of its bytes, and room for nearly all its characters."""
    wanted = math.sqrt(text_bytes)
    total, covered, distinct = sum(characters.values()), 0, 0
    for count in sorted(characters.values(), reverse=True):
        if covered >= KNOWN_CHARACTERS * total:
            break
        covered, distinct = covered + count, distinct + 1
    least = 1.5 * distinct + BYTES_AND_SPECIAL_TOKENS
    nearest = min(VOCAB_SIZES, key=lambda size: abs(math.log(size / wanted)))
    fitting = next((size for size in VOCAB_SIZES if size >= least), VOCAB_SIZES[-1])
    return max(nearest, fitting)


def weight_decay(passes: float, parameters_a_byte: float) -> float:
    """Decay of the weights of a run with this many passes over the text.

    Args:
        parameters_a_byte: of the text, outside the embeddings; a model with fewer than one cannot learn it by heart.
    """
    decay = DECAY_A_PASS * passes * min(1.0, parameters_a_byte)
    return round(min(max(decay, LEAST_DECAY), LARGEST_DECAY), 2)
