# SPDX-License-Identifier: Apache-2.0
"""Programs that others wrote work on our models as on any other; what cannot run here gets the property it needs."""

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    pipeline,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM, ScratchGPTModel
from scratch_gpt.configuration_scratch_gpt import DIALECTS
from scratch_gpt.tokenization import save_tokenizer
from scratch_gpt.training.posttrain.posttraining import make_chat_model


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where an optional package is not installed; nothing is imported to find out."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}")


def make_ids(batch: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(4, 500, (batch, length), generator=torch.Generator().manual_seed(1))


def test_pipeline_answers_conversations(chat_folder: Path) -> None:
    """Chat messages in, the greedy answer out; two conversations in one padded batch as each alone."""
    generator = pipeline("text-generation", model=str(chat_folder))
    model, tokenizer = generator.model, generator.tokenizer
    chats = [
        [{"role": "user", "content": text}] for text in ("Hi", "What is the capital of a land far away?")
    ]
    answers = generator(chats, batch_size=2, max_new_tokens=8, do_sample=False)
    for chat, answer in zip(chats, answers, strict=True):
        inputs = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer[0]["generated_text"] == [*chat, {"role": "assistant", "content": text}]


@needs("peft")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_trains_an_adapter_and_merges_it(tiny_model: ScratchGPTForCausalLM, tmp_path: Path) -> None:
    """LoRA on all linear layers learns while the model stays as it is; merged or loaded again, the logits are equal."""
    import peft

    original = ScratchGPTForCausalLM(tiny_model.config)
    original.load_state_dict(tiny_model.state_dict())
    ids = make_ids()
    model = peft.get_peft_model(
        tiny_model, peft.LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0)
    )
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    model.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        adapted = model(input_ids=ids).logits
        assert (adapted - original(ids).logits).abs().max() > 1e-2
        loaded = peft.PeftModel.from_pretrained(original, tmp_path)
        torch.testing.assert_close(loaded(input_ids=ids).logits, adapted, atol=0, rtol=0)
        merged = model.merge_and_unload()
        assert type(merged) is ScratchGPTForCausalLM
        torch.testing.assert_close(merged(ids).logits, adapted, atol=1e-5, rtol=0)


@needs("peft")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_has_default_targets(base_folder: Path, encoder_decoder_folder: Path) -> None:
    """`LoraConfig()` alone adapts query and value, as of Llama; also IA3's defaults are there."""
    import peft

    decoder = ScratchGPTForCausalLM.from_pretrained(base_folder)
    both = AutoModelForSeq2SeqLM.from_pretrained(encoder_decoder_folder)
    for model, layers in (
        (decoder, 2),
        (both, 6),
    ):  # of the encoder 2, of the decoder 2 and 2 that look at the source
        adapted = peft.get_peft_model(model, peft.LoraConfig())
        names = [name.split(".")[-4] for name, _ in adapted.named_parameters() if "lora_A" in name]
        assert sorted(names) == ["q_proj"] * layers + ["v_proj"] * layers
    ids = make_ids()
    expected = decoder(ids).logits  # the adapters begin as nothing
    ia3 = peft.get_peft_model(ScratchGPTForCausalLM.from_pretrained(base_folder), peft.IA3Config())
    torch.testing.assert_close(ia3(ids).logits, expected)


@pytest.fixture
def saved_chat(tiny_model: ScratchGPTForCausalLM, tiny_tokenizer, tmp_path: Path) -> Path:
    """A folder with the generation config of the sft stage, of a model that never ends an answer."""
    make_chat_model(tiny_model, tiny_tokenizer)
    tiny_model.generation_config.eos_token_id = None
    tiny_model.save_pretrained(tmp_path / "saved")
    save_tokenizer(tiny_tokenizer, tmp_path / "saved")
    return tmp_path / "saved"


def test_saved_defaults_never_outrank_the_caller(saved_chat: Path) -> None:
    """Each length, greed and each way of sampling that is asked for; the limit of chat and server is theirs alone."""
    saved = json.loads((saved_chat / "generation_config.json").read_text())
    assert saved["chat_max_new_tokens"] == 128
    # What vLLM takes as the defaults of its requests.
    vllm = {"repetition_penalty", "temperature", "top_k", "top_p", "min_p", "max_new_tokens"}
    assert vllm & set(saved) == {"temperature", "top_p"}
    assert "max_length" not in saved
    generator = pipeline("text-generation", model=str(saved_chat))
    model, ids = generator.model, make_ids(1, 6)

    def length(**asked: object) -> int:
        return model.generate(ids, attention_mask=torch.ones_like(ids), **asked).shape[1] - 6

    with pytest.warns(UserWarning, match="model-agnostic default"):
        assert length() == 20
    assert length(max_length=20) == 14
    assert length(max_new_tokens=3) == length(generation_config=GenerationConfig(max_new_tokens=3)) == 3
    for asked, expected in (({"max_new_tokens": 9}, 9), ({"max_length": 20}, 18)):
        text = generator("Hi", return_tensors=True, **asked)[0]["generated_token_ids"]
        assert len(text) - 2 == expected, asked
    plain = copy.deepcopy(model)
    plain.generation_config = GenerationConfig(pad_token_id=model.generation_config.pad_token_id)
    for asked in (
        {"do_sample": False},
        {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0},
        {"do_sample": True, "temperature": 2.0, "top_p": 0.5, "top_k": 9, "repetition_penalty": 1.3},
    ):
        for given in (asked, {"generation_config": GenerationConfig(**asked, max_new_tokens=10)}):
            drawn = []
            for other in (model, plain):
                torch.manual_seed(0)
                limits = {} if "generation_config" in given else {"max_new_tokens": 10}
                drawn.append(other.generate(ids, attention_mask=torch.ones_like(ids), **given, **limits))
            torch.testing.assert_close(*drawn)


@needs("lm_eval")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("limit", [16, 90])
def test_lm_eval_writes_as_much_as_it_asks_for(saved_chat: Path, limit: int) -> None:
    """Its max_gen_toks, which reaches `generate` as max_length; and greedy, as it asks."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    asked = {"until": [], "max_gen_toks": limit, "do_sample": False, "temperature": 0.0}
    evaluated = HFLM(str(saved_chat), device="cpu", batch_size=1)
    (text,) = evaluated.generate_until([Instance("generate_until", {}, ("Hi there", asked), 0)])
    ids = evaluated.tokenizer("Hi there", return_tensors="pt")["input_ids"]
    expected = evaluated.model.generate(ids, max_new_tokens=limit, do_sample=False)[0, ids.shape[1] :]
    assert len(expected) == limit
    assert text == evaluated.tokenizer.decode(expected, skip_special_tokens=True)


@needs("lm_eval")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_lm_eval_scores_a_local_task(base_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Accuracy on a task file of the user's own is that of the summed log-probabilities of each choice."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    questions = [
        {
            "question": f"{number} apples and",
            "choices": [" one more", " no pears", " nothing"],
            "answer": number % 3,
        }
        for number in range(6)
    ]
    (tmp_path / "tasks").mkdir()
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in questions))
    (tmp_path / "tasks" / "fruit.yaml").write_text(
        "task: fruit\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\n'
        "doc_to_choice: choices\n"
        "doc_to_target: answer\n"
        'target_delimiter: ""\n'
        "metric_list: [{metric: acc}]\n"
    )
    model, tokenizer = (
        ScratchGPTForCausalLM.from_pretrained(base_folder),
        AutoTokenizer.from_pretrained(base_folder),
    )
    found = lm_eval.simple_evaluate(
        HFLM(str(base_folder), device="cpu", batch_size=4),
        tasks=["fruit"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        bootstrap_iters=0,
    )

    def score(question: str, choice: str) -> float:
        ids = tokenizer(question + choice, return_tensors="pt")["input_ids"]
        start = len(tokenizer(question)["input_ids"])
        with torch.no_grad():
            logprobs = model(ids).logits.log_softmax(-1)[0, start - 1 : -1]
        return logprobs.gather(1, ids[0, start:, None]).sum().item()

    scores = [[score(row["question"], choice) for choice in row["choices"]] for row in questions]
    right = [
        row["answer"] == scored.index(max(scored)) for row, scored in zip(questions, scores, strict=True)
    ]
    assert found["results"]["fruit"]["acc,none"] == pytest.approx(sum(right) / len(right))
    theirs = [[response[0] for response in sample["filtered_resps"]] for sample in found["samples"]["fruit"]]
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(scores), atol=1e-4, rtol=0)


@needs("torchao")
@pytest.mark.filterwarnings("ignore")
def test_torchao_holds_the_weights_in_8_bits(chat_folder: Path) -> None:
    """Quantized on loading, logits stay near and generation runs."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    full = AutoModelForCausalLM.from_pretrained(chat_folder)
    model = AutoModelForCausalLM.from_pretrained(
        chat_folder, quantization_config=TorchAoConfig(Int8WeightOnlyConfig())
    )
    ids = make_ids()
    with torch.no_grad():
        reference, logits = full(ids).logits, model(ids).logits
    error = (logits - reference).abs().max() / reference.abs().max()
    assert 0 < error < 0.05
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape == (2, 16)


@pytest.fixture
def attention_calls(monkeypatch) -> list[dict]:
    """Register the attention "recorded" as a serving engine does its own; give what it was called with."""
    calls: list[dict] = []

    def recorded(module, query, key, value, attention_mask, **kwargs):
        calls.append({"layer": module.layer_idx, "query": query.shape, "key": key.shape} | kwargs)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)

    for interface, function in ((AttentionInterface, recorded), (AttentionMaskInterface, sdpa_mask)):
        mapping: dict[str, Callable] = dict(interface._global_mapping)
        monkeypatch.setattr(interface, "_global_mapping", mapping)
        interface.register("recorded", function)
    return calls


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_engine_can_bring_its_attention(dialect: str, attention_calls: list[dict]) -> None:
    """vLLM's transformers backend builds AutoModel with an attention of its own and calls it like this.

    Each layer calls that attention once, with heads not repeated and the engine's own arguments passed through.
    """
    torch.manual_seed(0)
    config = ScratchGPTConfig(
        vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, dialect=dialect
    )
    key_heads = config.num_key_value_heads
    model = AutoModel.from_config(config, attn_implementation="recorded").eval()
    assert isinstance(model, ScratchGPTModel)
    ids = make_ids(batch=1)
    positions = torch.arange(12)[None]
    engine = {0: "cache of layer 0", 1: "cache of layer 1"}
    with torch.no_grad():
        hidden = model(
            ids, position_ids=positions, use_cache=False, attention_instances=engine, return_dict=False
        )[0]
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(hidden, model(ids).last_hidden_state, atol=0, rtol=0)
    assert [call["layer"] for call in attention_calls] == [0, 1]
    for call in attention_calls:
        assert (call["query"], call["key"]) == ((1, 4, 12, 16), (1, key_heads, 12, 16))
        assert call["attention_instances"] is engine
        assert call["scaling"] == 16**-0.5
