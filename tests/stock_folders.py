# SPDX-License-Identifier: Apache-2.0
"""Tiny folders of transformers' own classes with the layout of published models: special tokens, chat template, stop tokens."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
import trl
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast


CORPUS = [
    "The cat sat on the mat; it said: hello, 12 times. What is one plus two? It is 3. user system assistant\n"
] * 5
# Where the published template is not among TRL's: written in equal form.
SMOLLM2 = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
# Mistral puts the system message into the last question, and writes no header of the answer.
MISTRAL = """\
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST] ' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}"""

# Its roles are no tokens, as OLMo 2's, Tulu's and Zephyr's are not.
TINYLLAMA = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4}


@dataclass(frozen=True)
class Layout:
    """What a published model's folder holds.

    Args:
        architecture: the class of transformers.
        config: its settings, tiny where that changes nothing.
        special, tags: the tokenizer's special and other added tokens.
        beyond: special tokens that the model has no embedding for; it has none to spare then.
        tokens: bos_token, eos_token, pad_token, unk_token.
        stops: tokens in `eos_token_id` of the generation config.
        template: the chat template, a file of TRL's or the text; None: a base model without one.
        generation: what else the generation config says.
        sentencepiece: as the tokenizers of Llama 2, Mistral and Gemma: spaces are characters, bytes are tokens.
    """

    architecture: str
    config: dict[str, Any]
    special: tuple[str, ...]
    tokens: dict[str, str]
    stops: tuple[str, ...]
    template: str | None
    generation: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    sentencepiece: bool = False


QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
)
LAYOUTS = {
    "qwen3": Layout(
        "Qwen3ForCausalLM",
        {**DECODER, "max_position_embeddings": 40960, "tie_word_embeddings": True},
        QWEN,
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        ("<|im_end|>", "<|endoftext|>"),
        "qwen3",
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
        tags=("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    ),
    "qwen2.5": Layout(
        "Qwen2ForCausalLM",
        {name: DECODER[name] for name in DECODER if name != "head_dim"}
        | {"max_position_embeddings": 32768, "tie_word_embeddings": True},
        QWEN,
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        ("<|im_end|>", "<|endoftext|>"),
        "qwen2_5",
        {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1},
        tags=("<tool_call>", "</tool_call>"),
    ),
    "llama3.2": Layout(
        "LlamaForCausalLM",
        {**DECODER, "max_position_embeddings": 131072, "tie_word_embeddings": True},
        LLAMA,
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        "llama3_2",
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    ),
    "smollm2": Layout(
        "LlamaForCausalLM",
        {**DECODER, "max_position_embeddings": 8192, "tie_word_embeddings": True},
        (*QWEN, "<repo_name>", "<reponame>", "<file_sep>"),
        # pads with the end of a turn
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
        },
        ("<|im_end|>",),
        SMOLLM2,
    ),
    "gpt2": Layout(
        "GPT2LMHeadModel",
        {**GPT2, "n_positions": 1024},
        ("<|endoftext|>",),
        dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
        ("<|endoftext|>",),
        None,
    ),
    "gemma3": Layout(
        "Gemma3ForCausalLM",
        {**DECODER, "max_position_embeddings": 32768, "sliding_window": 512},
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        ("<eos>", "<end_of_turn>"),
        "gemma3",
        {"do_sample": True, "top_k": 64, "top_p": 0.95},
        beyond=("<image_soft_token>",),  # as gemma-3-1b-it, whose tokenizer serves models that see
        sentencepiece=True,
    ),
    "phi3": Layout(
        "Phi3ForCausalLM",
        {name: DECODER[name] for name in DECODER if name != "head_dim"} | {"max_position_embeddings": 4096},
        (
            *("<unk>", "<s>", "</s>", "<|endoftext|>"),
            *("<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
        ),
        # its template ends a conversation with the end of sequence, which ends no turn
        {
            "bos_token": "<s>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<unk>",
        },
        ("<|endoftext|>", "<|assistant|>", "<|end|>"),
        "phi3",
        sentencepiece=True,
    ),
    "tinyllama": Layout(
        "LlamaForCausalLM",
        {**DECODER, "max_position_embeddings": 2048},
        ("<unk>", "<s>", "</s>"),
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"},
        ("</s>",),
        TINYLLAMA,
        sentencepiece=True,
    ),
    "mistral": Layout(
        "MistralForCausalLM",
        {**DECODER, "max_position_embeddings": 32768, "sliding_window": None},
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        ("</s>",),
        MISTRAL,
        sentencepiece=True,
    ),
}


@cache
def _backend(name: str) -> str:
    layout = LAYOUTS[name]
    if layout.sentencepiece:
        letters = sorted(set("".join(CORPUS)) - {" "} | {"\u2581"})
        pieces = [*layout.special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
        backend = tokenizers.Tokenizer(
            models.BPE(
                {piece: index for index, piece in enumerate(pieces)},
                [],
                unk_token="<unk>",
                byte_fallback=True,
                fuse_unk=True,
            )
        )
        backend.normalizer = normalizers.Replace(" ", "\u2581")
        backend.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(
            CORPUS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
        )
    special = [*layout.special, *layout.beyond]
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    backend.add_tokens([AddedToken(text, normalized=False) for text in layout.tags])
    return str(backend.to_str())


def stock_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a layout."""
    layout = LAYOUTS[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(_backend(name)), **layout.tokens
    )
    if layout.template is not None:
        file = Path(trl.__file__).parent / "chat_templates" / f"{layout.template}.jinja"
        is_file = "\n" not in layout.template
        tokenizer.chat_template = file.read_text(encoding="utf-8") if is_file else layout.template
    return tokenizer


def write_stock_folder(name: str, folder: Path) -> Path:
    """A tiny model of a layout with random weights, as its publisher's `save_pretrained` would write it."""
    layout, tokenizer = LAYOUTS[name], stock_tokenizer(name)
    architecture = getattr(transformers, layout.architecture)
    torch.manual_seed(0)
    ids = {each: getattr(tokenizer, f"{each}_id") for each in ("bos_token", "eos_token", "pad_token")}
    config = architecture.config_class(
        # as published: GPT-2 has no row more than tokens, the smallest Gemma 3 one less
        vocab_size=len(tokenizer) - len(layout.beyond) + (0 if name == "gpt2" or layout.beyond else 64),
        initializer_range=0.1,
        **{f"{each}_id": value for each, value in ids.items()},
        **layout.config,
    )
    model = architecture(config)
    stops = tokenizer.convert_tokens_to_ids(list(layout.stops))
    model.generation_config = GenerationConfig(
        bos_token_id=ids["bos_token"],
        pad_token_id=ids["pad_token"],
        eos_token_id=stops if len(stops) > 1 else stops[0],
        **layout.generation,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
