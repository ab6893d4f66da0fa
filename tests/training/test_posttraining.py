# SPDX-License-Identifier: Apache-2.0
"""Settings, loading, resuming of the stages on top of TRL, and what TRL computes from our models."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, RLOOConfig
from trl.trainer.utils import add_fused_lm_head

from scratch_gpt.errors import UserError
from scratch_gpt.training.arguments import parse, write_run_yaml
from scratch_gpt.training.posttraining import (
    RewardArguments,
    RLHFArguments,
    SFTArguments,
    check_chat_format,
    context_length,
    load_chat_model,
    make_chat_model,
)


CONFIGS = Path(__file__).parents[2] / "train" / "configs"
CONFIG_FILES = {
    "demo/sft.yaml": SFTArguments,
    "demo/reward.yaml": RewardArguments,
    "demo/rlhf.yaml": RLHFArguments,
    "real/sft_dolly.yaml": SFTArguments,
    "real/reward_polite.yaml": RewardArguments,
}


def sft_arguments(folder: Path, **settings: Any) -> SFTArguments:
    sources = [{"name": "primer", "path": "primer"}]
    return SFTArguments(model_name_or_path="base", sources=sources, output_dir=str(folder), **settings)


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_shipped_configs_parse_and_run_yaml_repeats_them(name: str, tmp_path: Path) -> None:
    """Every shipped YAML is understood, and the run.yaml that a run leaves is a config with the same settings."""
    arguments = parse(CONFIG_FILES[name], ["--config", str(CONFIGS / name)])
    for key, value in yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8")).items():
        assert getattr(arguments, key) == value
    write_run_yaml(arguments, tmp_path)
    again = parse(CONFIG_FILES[name], ["--config", str(tmp_path / "run.yaml")])
    assert again.to_dict() == arguments.to_dict()


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    """A misspelt setting in the YAML is named, not ignored."""
    config = {"model_name_or_path": "b", "output_dir": "o", "sources": [{"name": "p", "path": "primer"}]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**config, "lerning_rate": 1.0}), encoding="utf-8")
    with pytest.raises(UserError, match="lerning_rate"):
        parse(SFTArguments, ["--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name_or_path": None}, "model_name_or_path is missing"),
        ({"reward_model": None}, "reward_model is missing"),
        ({"algorithm": "ppo"}, "must be rloo or grpo, got 'ppo'"),
        ({"sources": None}, "sources: name at least one"),
        ({"push_to_hub": True}, "push_to_hub needs hub_model_id"),
    ],
)
def test_missing_settings_are_named(settings: dict[str, Any], message: str) -> None:
    """What a stage cannot do without is asked for in one line."""
    complete = {
        "model_name_or_path": "chat",
        "reward_model": "reward",
        "sources": [{"name": "primer", "path": "primer"}],
        "output_dir": "out",
    }
    with pytest.raises(UserError, match=message):
        RLHFArguments(**{**complete, **settings})


def test_grpo_gets_the_same_settings(tmp_path: Path) -> None:
    """One flag chooses the algorithm; all settings that both have go along."""
    settings = {"beta": 0.25, "num_generations": 4, "max_steps": 7, "temperature": 0.9, "learning_rate": 3e-4}
    common = {
        "model_name_or_path": "chat",
        "reward_model": "reward",
        "sources": [{"name": "primer", "path": "primer"}],
        "output_dir": str(tmp_path),
    }
    assert isinstance(RLHFArguments(**common, **settings).for_trainer(), RLOOConfig)
    chosen = RLHFArguments(**common, **settings, algorithm="grpo").for_trainer()
    assert isinstance(chosen, GRPOConfig)
    assert {name: getattr(chosen, name) for name in settings} == settings
    assert chosen.mask_truncated_completions
    assert chosen.output_dir == str(tmp_path)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_trl_computes_the_log_probabilities_of_our_logits(tiny_model: Any, temperature: float) -> None:
    """The head that TRL fuses into the loss, past our forward, gives the log-softmax of our forward's logits."""
    torch.manual_seed(0)
    input_ids = torch.randint(4, 500, (3, 17))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[0, :5] = 0
    labels = input_ids.masked_fill(attention_mask == 0, -100)
    with torch.no_grad():
        logits = tiny_model(input_ids=input_ids, attention_mask=attention_mask).logits
        expected = (logits[:, :-1] / temperature).log_softmax(-1).gather(2, input_ids[:, 1:, None])[:, :, 0]
        add_fused_lm_head(tiny_model, temperature=temperature)
        fused = tiny_model(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True
        ).log_probs
        again = tiny_model(input_ids=input_ids, attention_mask=attention_mask).logits
    predicted = labels[:, 1:] != -100
    torch.testing.assert_close(fused[predicted], expected[predicted], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again, logits)


def test_a_chat_model_stops_at_the_end_of_its_turn(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Saved and loaded, `generate` alone stops after <|im_end|>."""
    make_chat_model(tiny_model, tiny_tokenizer)
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    im_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == model.config.eos_token_id == im_end
    # every logit grows with the hidden state's first entry alone, and that token has the largest weight
    torch.nn.init.zeros_(model.lm_head.weight)
    model.model.norm.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    torch.nn.init.ones_(model.lm_head.weight[im_end])
    generated = model.generate(torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2, dtype=torch.long))
    assert generated.tolist() == [[5, 6, im_end]]


def test_tokenizers_that_cannot_write_conversations_are_refused(tiny_tokenizer: Any) -> None:
    """No chat template, no mark of the assistant's part, no end-of-turn token: each is said."""
    check_chat_format(tiny_tokenizer, "folder")
    template = tiny_tokenizer.chat_template
    tiny_tokenizer.chat_template = template.replace("generation %}", "if true %}", 1).replace(
        "endgeneration", "endif"
    )
    with pytest.raises(UserError, match="does not mark the assistant's part"):
        check_chat_format(tiny_tokenizer, "folder")
    tiny_tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        check_chat_format(tiny_tokenizer, "folder")


def test_a_base_model_is_no_chat_model(base_folder: Path) -> None:
    """The stages after sft name the stage that is missing."""
    with pytest.raises(UserError, match="run the sft stage first"):
        load_chat_model(str(base_folder))


def test_context_length(tiny_model: Any) -> None:
    """The model's context bounds the rows; less may be asked for, more may not."""
    assert context_length(tiny_model, None) == 128
    assert context_length(tiny_model, 64) == 64
    with pytest.raises(UserError, match="129 is longer than the model's context of 128"):
        context_length(tiny_model, 129)
