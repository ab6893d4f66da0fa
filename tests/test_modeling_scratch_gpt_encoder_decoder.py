# SPDX-License-Identifier: Apache-2.0
"""The encoder-decoder: against the stock classes of the same design, then generation, padding, saving, mistakes."""

import copy
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BlenderbotConfig,
    BlenderbotForConditionalGeneration,
    DataCollatorForSeq2Seq,
    DiaConfig,
    DiaForConditionalGeneration,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
)

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTEncoderDecoderConfig,
    ScratchGPTEncoderDecoderForSequenceClassification,
    ScratchGPTEncoderDecoderModel,
    ScratchGPTForConditionalGeneration,
    ScratchGPTForMaskedLM,
    ScratchGPTModel,
)
from scratch_gpt.export.folders import export_folder
from scratch_gpt.export.gguf import export_gguf
from scratch_gpt.modeling_scratch_gpt_inputs import CACHE_NAME
from wording import user_error


DIALECTS = ["qwen3", "llama", "gpt2"]
SHAPE = {
    "vocab_size": 99,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_decoder_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
PAD, START, NEW = 0, 0, 6


def build(
    dialect: str, head: type[PreTrainedModel] = ScratchGPTForConditionalGeneration, **changes
) -> PreTrainedModel:
    """A small model, seeded, in evaluation mode; no norm and no bias is at its initial one or zero."""
    grouped = {} if dialect == "gpt2" else {"num_key_value_heads": 2}
    torch.manual_seed(0)
    model = head(ScratchGPTEncoderDecoderConfig(dialect=dialect, **{**SHAPE, **grouped, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=DIALECTS)
def model(request) -> ScratchGPTForConditionalGeneration:
    """A small model of each dialect, its decoder deeper than its encoder."""
    return build(request.param)


def renamed(model: PreTrainedModel, names: dict[str, str]) -> dict[str, torch.Tensor]:
    state = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    return state


def blenderbot(model: ScratchGPTForConditionalGeneration) -> PreTrainedModel:
    """Learned positions, LayerNorm, biases, norm before each part: the gpt2 dialect with a source."""
    config = model.config
    stock = BlenderbotForConditionalGeneration(
        BlenderbotConfig(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            encoder_layers=config.num_hidden_layers,
            decoder_layers=config.num_decoder_layers,
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), config.intermediate_size),
            **dict.fromkeys(
                ("encoder_attention_heads", "decoder_attention_heads"), config.num_attention_heads
            ),
            max_position_embeddings=config.max_position_embeddings,
            activation_function=config.hidden_act,
            dropout=0.0,
            decoder_start_token_id=START,
        )
    )
    names = {
        "input_layernorm": "self_attn_layer_norm",
        "cross_attention_layernorm": "encoder_attn_layer_norm",
        "post_attention_layernorm": "final_layer_norm",
        "cross_attn": "encoder_attn",
        "o_proj": "out_proj",
        "mlp.up_proj": "fc1",
        "mlp.down_proj": "fc2",
        "coder.norm": "coder.layer_norm",
    }
    state = renamed(model, names)
    stock.load_state_dict(
        state
        | {
            "model.shared.weight": state["lm_head.weight"],
            "final_logits_bias": torch.zeros(1, config.vocab_size),
        }
    )
    return stock.eval()


class Dia(nn.Module):
    """Dia, a speech model, is the llama dialect with a source, if it has one channel and its queries are scaled."""

    def __init__(self, model: ScratchGPTForConditionalGeneration) -> None:
        super().__init__()
        config = model.config
        shared = {
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "norm_eps": config.rms_norm_eps,
            "rope_parameters": config.rope_parameters,
        }
        decoder = shared | {
            "num_hidden_layers": config.num_decoder_layers,
            "num_channels": 1,
            "cross_num_attention_heads": config.num_attention_heads,
            "cross_num_key_value_heads": config.num_key_value_heads,
            "cross_head_dim": config.head_dim,
            "cross_hidden_size": config.hidden_size,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        }
        encoder = shared | {"num_hidden_layers": config.num_hidden_layers}
        self.stock = DiaForConditionalGeneration(
            DiaConfig(encoder_config=encoder, decoder_config=decoder, delay_pattern=[0])
        )
        names = {
            "encoder.embed_tokens": "encoder.embedding",
            "decoder.embed_tokens": "decoder.embeddings.embed",
            "input_layernorm": "pre_sa_norm",
            "cross_attention_layernorm": "pre_ca_norm",
            "post_attention_layernorm": "post_sa_norm",
            "self_attn": "self_attention",
            "cross_attn": "cross_attention",
            "lm_head": "logits_dense",
        }
        state = {}
        for name, tensor in renamed(model, names).items():
            name = name.replace("post_sa_norm", "pre_mlp_norm") if "decoder" in name else name
            state[name] = tensor * config.head_dim**-0.5 if "q_proj" in name else tensor
        for name in [name for name in state if "gate_proj" in name]:
            gate_and_up = torch.cat([state.pop(name), state.pop(name.replace("gate_proj", "up_proj"))])
            state[name.replace("gate_proj", "gate_up_proj")] = gate_and_up
        self.stock.load_state_dict(state)
        self.eval()

    def forward(self, decoder_input_ids: torch.Tensor | None = None, **inputs) -> nn.Module:
        return self.stock(decoder_input_ids=decoder_input_ids[..., None], **inputs)


class Qwen3WithASource(nn.Module):
    """No stock class has it: stock Qwen3 layers, and between their halves an attention written out here."""

    def __init__(self, model: ScratchGPTForConditionalGeneration) -> None:
        super().__init__()
        self.ours = model
        names = [
            *("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"),
            *("head_dim", "rope_parameters", "rms_norm_eps", "pad_token_id"),
        ]
        shape = {name: getattr(model.config, name) for name in names}
        self.encoder = Qwen3Model(Qwen3Config(**shape, num_hidden_layers=2, is_causal=False))
        self.decoder = Qwen3Model(Qwen3Config(**shape, num_hidden_layers=3))
        self.encoder.load_state_dict(model.model.encoder.state_dict())
        own = {
            name: tensor for name, tensor in model.model.decoder.state_dict().items() if "cross" not in name
        }
        self.decoder.load_state_dict(own)
        self.eval()

    def look_at(self, source: torch.Tensor, layer: int, mask: torch.Tensor | None) -> Callable:
        """What goes before the MLP of this layer: x + cross_attention(norm(x), source)."""
        ours = self.ours.model.decoder.layers[layer]
        attention = ours.cross_attn

        def heads(states: torch.Tensor, projection: nn.Linear, norm: nn.Module | None) -> torch.Tensor:
            states = projection(states).unflatten(-1, (-1, 16))
            if norm is not None:
                states = nn.functional.rms_norm(states, (16,), norm.weight, 1e-6)
            return states.transpose(1, 2)

        def hook(norm: nn.Module, inputs: tuple) -> tuple:
            (x,) = inputs
            weight = ours.cross_attention_layernorm.weight
            query = heads(nn.functional.rms_norm(x, (64,), weight, 1e-6), attention.q_proj, attention.q_norm)
            key = heads(source, attention.k_proj, attention.k_norm)
            value = heads(source, attention.v_proj, None)
            output = nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, enable_gqa=True
            )
            self.added = attention.o_proj(output.transpose(1, 2).flatten(2))
            return (x + self.added,)

        return hook

    def forward(
        self,
        input_ids: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> object:
        source = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[:, None, None].bool() if attention_mask is not None else None
        handles = []
        for number, layer in enumerate(self.decoder.layers):
            # the residual is taken before the norm: what the source adds must reach it too
            handles.append(
                layer.post_attention_layernorm.register_forward_pre_hook(self.look_at(source, number, mask))
            )
            handles.append(layer.register_forward_hook(lambda module, inputs, output: output + self.added))
        hidden = self.decoder(decoder_input_ids, use_cache=False).last_hidden_state
        for handle in handles:
            handle.remove()
        return self.ours.lm_head(hidden)


def twin(model: ScratchGPTForConditionalGeneration) -> Callable[..., torch.Tensor]:
    """The reference of the model's dialect: inputs to logits."""
    if model.config.dialect == "qwen3":
        return Qwen3WithASource(model)
    stock = blenderbot(model) if model.config.dialect == "gpt2" else Dia(model)
    return lambda **inputs: stock(**inputs).logits.reshape(*inputs["decoder_input_ids"].shape, -1)


def pair(some_ids) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sources of 13 tokens and two targets of 8."""
    return some_ids(2, 13), some_ids(2, 8) % 50 + 1


def padded(
    input_ids: torch.Tensor, side: str, width: int = 4
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows with padding at one side, their mask, and positions that do not count it."""
    padding = torch.full((input_ids.shape[0], width), PAD)
    rows = torch.cat([padding, input_ids] if side == "left" else [input_ids, padding], dim=1)
    mask = (rows != PAD).long()
    return rows, mask, (mask.cumsum(-1) - 1).clamp(min=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_logits_equal_a_reference(model, some_ids, implementation) -> None:
    """Blenderbot, Dia, or Qwen3's layers with a written-out cross-attention: with the same weights the same logits."""
    reference = twin(model)
    model.set_attn_implementation(implementation)
    source, target = pair(some_ids)
    rows, mask, _ = padded(source, "right")
    with torch.no_grad():
        for inputs in ({"input_ids": source}, {"input_ids": rows, "attention_mask": mask}):
            theirs = reference(**inputs, decoder_input_ids=target)
            ours = model(**inputs, decoder_input_ids=target).logits
            assert theirs.abs().max() > 0.3
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_target_reads_source_and_its_own_past_only(dialect, some_ids) -> None:
    """The last source token moves the first logits; a later target token moves none before it."""
    model, (source, target) = build(dialect), pair(some_ids)
    other_source, other_target = source.clone(), target.clone()
    other_source[:, -1] = other_source[:, -1] % 98 + 1
    other_target[:, 5] = other_target[:, 5] % 98 + 1
    with torch.no_grad():
        logits = model(source, decoder_input_ids=target).logits
        moved = model(other_source, decoder_input_ids=target).logits
        later = model(source, decoder_input_ids=other_target).logits
    assert (moved[:, 0] - logits[:, 0]).abs().max() > 1e-3
    assert torch.equal(later[:, :5], logits[:, :5])
    assert not torch.equal(later[:, 5], logits[:, 5])


def test_cached_steps_equal_the_full_pass(model, some_ids) -> None:
    """In pieces of one, three and more tokens; the encoder's states are read once, then come from the cache."""
    source, target = pair(some_ids)
    with torch.no_grad():
        full = model(source, decoder_input_ids=target).logits
        encoded, past, steps = model.get_encoder()(source), None, []
        for piece in target.split([1, 3, 1, 3], dim=1):
            output = model(
                encoder_outputs=encoded, decoder_input_ids=piece, use_cache=True, **{CACHE_NAME: past}
            )
            past = output.past_key_values
            steps.append(output.logits)
            encoded = (torch.zeros_like(encoded[0]),)  # what is not looked at any more
    torch.testing.assert_close(torch.cat(steps, dim=1), full, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_the_cache_has_two_names(model, some_ids, name) -> None:
    """Until transformers 5.24 and since: by both, the second piece sees the first."""
    source, target = pair(some_ids)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    is_old = name != CACHE_NAME == "cache"
    with torch.no_grad(), pytest.warns(FutureWarning, match=name) if is_old else nullcontext():
        full = model(source, decoder_input_ids=target).logits
        for piece in target.split([3, 1, target.shape[1] - 4], dim=1):
            logits = model(source, decoder_input_ids=piece, **{name: cache}).logits
    torch.testing.assert_close(logits, full[:, 4:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static", "disable_compile": True},
        {"assistant_early_exit": 1},
    ],
    ids=["dynamic", "none", "static", "early exit"],
)
def test_greedy_generate_equals_the_loop(model, some_ids, settings) -> None:
    """With every kind of cache, and with padded sources, the tokens of a plain argmax loop."""
    source, _ = pair(some_ids)
    if "assistant_early_exit" in settings:  # of one text at a time
        source = source[:1]
    expected = torch.full((len(source), 1), START)
    with torch.no_grad():
        for _ in range(NEW):
            chosen = model(source, decoder_input_ids=expected, use_cache=False).logits[:, -1:].argmax(-1)
            expected = torch.cat([expected, chosen], dim=1)
    rows, mask, _ = padded(source, "right")
    output = model.generate(rows, attention_mask=mask, max_new_tokens=NEW, do_sample=False, **settings)
    assert torch.equal(output, expected)
    assert model.config.num_hidden_layers == 2


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_classifier_scores_the_start_in_view_of_the_source(some_ids, tmp_path, side) -> None:
    """Linear in the decoder's first state, whatever the padding; saved and opened by its Auto class; the loss."""
    model = build("qwen3", ScratchGPTEncoderDecoderForSequenceClassification, num_labels=3)
    source, _ = pair(some_ids)
    labels = torch.arange(len(source))
    start = torch.full((len(source), 1), START)
    rows, mask, _ = padded(source, side)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        state = model.model(source, decoder_input_ids=start).last_hidden_state[:, 0]
        output = loaded(rows, attention_mask=mask, labels=labels)
    torch.testing.assert_close(output.logits, state @ model.score.weight.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits, labels))
    model.config.decoder_start_token_id = None
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        model(source)


def test_beam_search_with_a_cache_equals_it_without(model, some_ids) -> None:
    """The cache of both attentions follows the beams; the best beam scores no less than the greedy text."""
    source, _ = pair(some_ids)
    settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    beams = [model.generate(source, num_beams=4, use_cache=cached, **settings) for cached in (True, False)]
    assert torch.equal(*beams)
    greedy = model.generate(source, **settings)

    def score(rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            log_probs = model(source, decoder_input_ids=rows[:, :-1]).logits.log_softmax(-1)
        return log_probs.gather(-1, rows[:, 1:, None]).sum((1, 2))

    assert (score(beams[0]) >= score(greedy) - 1e-4).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model, some_ids, side) -> None:
    """Of the source or of the target, at either side; rotary positions need not be told."""
    source, target = pair(some_ids)
    rows, mask, positions = padded(source, side)
    goal, goal_mask, goal_positions = padded(target, side)
    learned = model.config.dialect == "gpt2"
    with torch.no_grad():
        alone = model(source, decoder_input_ids=target).logits
        kept = model(
            rows,
            attention_mask=mask,
            position_ids=positions if learned else None,
            decoder_input_ids=goal,
            decoder_attention_mask=goal_mask,
            decoder_position_ids=goal_positions if learned else None,
        ).logits[goal_mask.bool()]
    torch.testing.assert_close(kept, alone.flatten(0, 1), atol=1e-5, rtol=0)


def test_loss_and_shift(model, some_ids) -> None:
    """The decoder sees the start and all labels but the last; the loss is at the labels' own positions."""
    source, labels = pair(some_ids)
    labels[0, 6:] = -100
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    assert shifted[:, 0].tolist() == [START, START]
    assert torch.equal(shifted[1, 1:], labels[1, :-1])
    assert shifted[0, -1] == PAD
    with torch.no_grad():
        output = model(source, labels=labels)
        same = model(source, decoder_input_ids=shifted, labels=labels)
        shared = model(source, labels=labels, num_items_in_batch=100).loss
    log_probs = output.logits.log_softmax(-1)
    places = [(row, t) for row in range(2) for t in range(8) if labels[row, t] != -100]
    expected = torch.stack([-log_probs[row, t, labels[row, t]] for row, t in places])
    torch.testing.assert_close(output.loss, expected.mean())
    torch.testing.assert_close(shared, expected.sum() / 100)
    assert torch.equal(same.loss, output.loss)


def test_the_collator_of_transformers_feeds_it(some_ids, tiny_tokenizer) -> None:
    """DataCollatorForSeq2Seq pads, and makes the decoder's input by the model's own method."""
    model = build("qwen3", vocab_size=len(tiny_tokenizer), pad_token_id=tiny_tokenizer.pad_token_id)
    rows = [{"input_ids": [5, 6, 7], "labels": [8, 9]}, {"input_ids": [5], "labels": [8, 9, 10]}]
    batch = DataCollatorForSeq2Seq(tiny_tokenizer, model=model)(rows)
    assert batch["decoder_input_ids"].tolist() == [[START, 8, 9], [START, 8, 9]]
    assert batch["labels"].tolist() == [[8, 9, -100], [8, 9, 10]]
    with torch.no_grad():
        alone = [model(torch.tensor([r["input_ids"]]), labels=torch.tensor([r["labels"]])).loss for r in rows]
        torch.testing.assert_close(model(**batch).loss, (2 * alone[0] + 3 * alone[1]) / 5)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's compiler, in transformers' call of flex
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("implementation", ["sdpa", "flex_attention"])
def test_attention_implementations_agree(model, some_ids, implementation) -> None:
    """Set on the whole, it reaches both halves; a padded source and target have the same logits."""
    source, target = pair(some_ids)
    rows, mask, _ = padded(source, "left")
    logits = []
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for each in ("eager", implementation):
            model.set_attn_implementation(each)
            halves = (model.get_encoder(), model.get_decoder())
            assert [half.config._attn_implementation for half in halves] == [each, each]
            logits.append(model(rows, attention_mask=mask, decoder_input_ids=target).logits)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)


def test_recorded_outputs(model, some_ids) -> None:
    """Hidden states are layers + 1 of each half; attentions of encoder, decoder, and between them."""
    source, target = pair(some_ids)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(source, decoder_input_ids=target, output_hidden_states=True, output_attentions=True)
        asked = ScratchGPTEncoderDecoderConfig(**SHAPE, output_attentions=True, attn_implementation="eager")
        by_config = ScratchGPTForConditionalGeneration(asked)(source, decoder_input_ids=target)
        plain = model(source, decoder_input_ids=target, return_dict=False)
        kept = model(source, decoder_input_ids=target, logits_to_keep=2).logits
        embed = model.get_input_embeddings()
        embedded = model(inputs_embeds=embed(source), decoder_inputs_embeds=embed(target)).logits
    assert (len(output.encoder_hidden_states), len(output.decoder_hidden_states)) == (3, 4)
    assert {weights.shape for weights in output.encoder_attentions} == {(2, 4, 13, 13)}
    assert {weights.shape for weights in output.decoder_attentions} == {(2, 4, 8, 8)}
    assert {weights.shape for weights in output.cross_attentions} == {(2, 4, 8, 13)}
    assert [len(output.encoder_attentions), len(output.decoder_attentions)] == [2, 3]
    assert len(output.cross_attentions) == len(by_config.cross_attentions) == 3
    assert len(by_config.encoder_attentions) == 2
    assert output.cross_attentions[0].min() > 0
    torch.testing.assert_close(output.cross_attentions[0].sum(-1), torch.ones(2, 4, 8))
    torch.testing.assert_close(model.lm_head(output.decoder_hidden_states[-1]), output.logits)
    assert torch.equal(plain[0], output.logits)
    assert torch.equal(embedded, output.logits)
    torch.testing.assert_close(kept, output.logits[:, -2:])


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(model, some_ids, use_reentrant) -> None:
    """Through the cross-attention into the encoder too, which reentrant checkpoints forget if it is passed by name."""
    source, labels = pair(some_ids)
    model.train()(source, labels=labels, use_cache=False).loss.backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model(source, labels=labels, use_cache=False).loss.backward()
    for parameter, gradient in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_saved_and_loaded_by_every_door(model, some_ids, tmp_path) -> None:
    """Config, model and head; one matrix of embeddings on disk and in memory; bfloat16; the encoder by itself."""
    source, target = pair(some_ids)
    model.save_pretrained(tmp_path / "whole")
    assert type(AutoConfig.from_pretrained(tmp_path / "whole")) is ScratchGPTEncoderDecoderConfig
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole")
    headless = AutoModel.from_pretrained(tmp_path / "whole")
    assert (type(loaded), type(headless)) == (type(model), ScratchGPTEncoderDecoderModel)
    with torch.no_grad():
        expected = model(source, decoder_input_ids=target)
        assert torch.equal(loaded(source, decoder_input_ids=target).logits, expected.logits)
        hidden = headless(source, decoder_input_ids=target).last_hidden_state
        torch.testing.assert_close(model.lm_head(hidden), expected.logits)
        half = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole", dtype=torch.bfloat16)
        close = half(source, decoder_input_ids=target).logits
        torch.testing.assert_close(close.float(), expected.logits, atol=0.3, rtol=0.1)
        loaded.get_encoder().save_pretrained(tmp_path / "encoder")
        encoder = AutoModel.from_pretrained(tmp_path / "encoder")
        assert type(encoder) is ScratchGPTModel
        assert torch.equal(encoder(source).last_hidden_state, expected.encoder_last_hidden_state)
        assert isinstance(AutoModelForMaskedLM.from_pretrained(tmp_path / "encoder"), ScratchGPTForMaskedLM)
    assert loaded.generation_config.decoder_start_token_id == START


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_stay_one_matrix(some_ids, tmp_path, tied) -> None:
    """Source and target share it, and the head if it is tied: built, copied, loaded, resized."""
    model, (source, target) = build("qwen3", tie_word_embeddings=tied), pair(some_ids)
    model.save_pretrained(tmp_path)
    copied, loaded = copy.deepcopy(model), AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    copied.resize_token_embeddings(111)
    for each in (model, copied, loaded):
        shared = each.get_encoder().embed_tokens.weight
        assert each.get_decoder().embed_tokens.weight is shared
        assert (each.lm_head.weight is shared) is tied
    with torch.no_grad():
        expected = model(source, decoder_input_ids=target).logits
        resized = copied(source, decoder_input_ids=target + 50).logits
        assert torch.equal(loaded(source, decoder_input_ids=target).logits, expected)
        torch.testing.assert_close(copied(source, decoder_input_ids=target).logits[..., :99], expected)
    assert resized.shape[-1] == copied.config.vocab_size == 111
    assert copied.get_decoder().embed_tokens.num_embeddings == 111  # what an error would name
    assert copied.generate(source, max_new_tokens=2, eos_token_id=None).shape == (2, 3)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_parallel_plans_name_existing_modules(dialect) -> None:
    """Each entry of the tensor and FSDP plans is a module; each projection of both halves is sharded."""
    model = build(dialect)
    modules = {
        ".".join("*" if part.isdigit() else part for part in name.split("."))
        for name, _ in model.named_modules()
    }
    assert {*model.tp_plan, *model.fsdp_plan} <= modules
    assert {name for name in modules if name.endswith("_proj")} <= set(model.tp_plan)
    assert not model.pp_plan


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's compiler, in the mask of packed documents
def test_one_graph_without_a_break(some_ids) -> None:
    """torch.compile takes training's forward whole."""
    model, (source, labels) = build("qwen3"), pair(some_ids)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        loss = compiled(source, labels=labels, use_cache=False).loss
        torch.testing.assert_close(loss, model(source, labels=labels).loss)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_initial_weights_have_the_documented_spread(dialect) -> None:
    """Residual projections are smaller by the root of twice the layers of their half; the rest is not."""
    torch.manual_seed(0)
    changes = {"dialect": dialect, "hidden_size": 128, "num_hidden_layers": 2, "num_decoder_layers": 8}
    model = ScratchGPTForConditionalGeneration(ScratchGPTEncoderDecoderConfig(**{**SHAPE, **changes}))
    for name, parameter in model.named_parameters():
        if "proj.weight" in name:
            residual = (2 * (2 if "encoder" in name else 8)) ** 0.5
            expected = 0.1 / residual if "o_proj" in name or "down_proj" in name else 0.1
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name


def test_halves_of_the_config() -> None:
    """Each half is a ScratchGPTConfig; caches are made for the decoder's layers; the default is as many as the encoder's."""
    config = ScratchGPTEncoderDecoderConfig(**SHAPE, rope_parameters={"rope_type": "linear", "factor": 2.0})
    encoder, decoder = config.get_text_config(encoder=True), config.get_text_config(decoder=True)
    assert (type(encoder), type(decoder)) == (ScratchGPTConfig, ScratchGPTConfig)
    assert (encoder.is_causal, encoder.num_hidden_layers) == (False, 2)
    assert (decoder.is_causal, decoder.num_hidden_layers) == (True, 3)
    assert encoder.rope_parameters == decoder.rope_parameters == config.rope_parameters
    assert config.get_text_config() is config
    shape = {name: value for name, value in SHAPE.items() if name != "num_decoder_layers"}
    assert ScratchGPTEncoderDecoderConfig(**shape).num_decoder_layers == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_decoder_layers": 0}, "num_decoder_layers must be at least 1, got 0"),
        ({"decoder_start_token_id": 99}, "decoder_start_token_id 99 is not below vocab_size 99"),
        ({"is_causal": False}, "is_causal=False is not the encoder-decoder design"),
        ({"dialect": "gpt2", "num_key_value_heads": 2}, "is not the gpt2 design"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes, message) -> None:
    """One line that names the setting."""
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        ScratchGPTEncoderDecoderConfig(**{**SHAPE, **changes})


@pytest.mark.parametrize("export", [export_folder, export_gguf], ids=["transformers", "gguf"])
def test_export_refuses_it(encoder_decoder_folder, tmp_path, export) -> None:
    """It goes with its own code: one line that names its class, and nothing is written."""
    with user_error("wrong_model", "ScratchGPTForCausalLM", found=["ScratchGPTForConditionalGeneration"]):
        export(encoder_decoder_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mistakes_of_the_caller_are_refused(some_ids) -> None:
    """No start token, no target, another batch, too long a source, ids and labels of another vocabulary."""
    source, target = pair(some_ids)
    model = build("gpt2", max_position_embeddings=13)
    with pytest.raises(IndexError, match="position_ids must be from 0 to 12, got 0 to 16"):
        model(padded(source, "right")[0], labels=target)
    with pytest.raises(
        IndexError, match=r"decoder_input_ids \(or labels\) must be from 0 to 98, got 0 to 150"
    ):
        model(source, labels=torch.full((2, 3), 150))
    with pytest.raises(IndexError, match="Target 150 is out of bounds"):
        model(source, labels=torch.tensor([[1, 150], [1, 2]]))
    with pytest.raises(ValueError, match="needs one of decoder_input_ids, decoder_inputs_embeds and labels"):
        model(source)
    with pytest.raises(ValueError, match="the source has 2 rows, the target 3"):
        model(source, decoder_input_ids=some_ids(3, 4))
    with pytest.raises(
        ValueError, match=r"attention_mask must have the source's shape \(2, 13\), got \(2, 8\)"
    ):
        model(encoder_outputs=model.get_encoder()(source), attention_mask=target, decoder_input_ids=target)
    for name in ("decoder_start_token_id", "pad_token_id"):
        lacking = build("llama", **{name: None})
        with pytest.raises(ValueError, match=f"the config has no {name}"):
            lacking(source, labels=target)
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        build("llama", decoder_start_token_id=None).generate(source, max_new_tokens=2)
