# SPDX-License-Identifier: Apache-2.0
"""Questions: whose answers are scored how, shown with models whose answers are known."""

import math

import pytest
import torch

from scratch_gpt.evaluation.benchmarks import qa
from scratch_gpt.evaluation.benchmarks.file_tasks import FORMS
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.inference.generation import Answer, encode_prompts
from scratch_gpt.primer.tasks import TASKS
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import CHOICE, Task, random_choice, score_answer, score_choice
from scratch_gpt.tokenization import IM_END, encode_plain


EXAMPLES = [
    Example("Who is A?", ("A is red.",), "fact", "1"),
    Example("Who, then, is A?", ("A is red.",), "fact_new_phrasing", "1"),
    Example("Who is B?", ("B is blue.",), "fact", "2"),
    Example("Who, then, is B?", ("B is blue.",), "fact_new_phrasing", "2"),
]
TASK = Task("facts", lambda split: EXAMPLES, score_answer)


@pytest.fixture
def arguments(base_folder) -> EvalArguments:
    return EvalArguments(model=[str(base_folder)], max_new_tokens=8)


def fake_answers(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> list[dict]:
    calls: list[dict] = []

    def generate(model, tokenizer, prompts, **settings) -> list[Answer]:
        calls.append({"prompts": prompts, **settings})
        return [Answer(text, True) for text in texts]

    monkeypatch.setattr(qa, "generate_answers", generate)
    return calls


def test_free_answers_are_scored_by_kind(monkeypatch, tiny_model, tiny_tokenizer, arguments) -> None:
    """Three of four are right: all of the first kind, half of the second; one answer is a question."""
    tiny_tokenizer.eos_token = IM_END
    calls = fake_answers(monkeypatch, ["A is red.", "a is RED", "B is blue", "Who is B?"])
    metrics = qa.evaluate_questions(tiny_model, tiny_tokenizer, TASK, EXAMPLES, arguments)
    assert {name: metric.value for name, metric in metrics.items()} == {
        "facts/exact_match": 0.75,
        "facts/f1": pytest.approx((3 + 2 * 2 / (3 + 3)) / 4),
        "facts/fact/exact_match": 1.0,
        "facts/fact_new_phrasing/exact_match": 0.5,
        "facts/continues_with_question": 0.25,
    }
    # the commonest answer is right in half of all cases
    assert metrics["facts/exact_match"].chance == 0.5
    low, high = metrics["facts/exact_match"].ci95
    assert low < 0.75 < high
    assert calls[0]["prompts"] == [example.prompt for example in EXAMPLES]
    assert calls[0]["chat"] and not calls[0]["one_line"]


def test_base_models_answer_in_one_line(monkeypatch, tiny_model, tiny_tokenizer, arguments) -> None:
    """A base model is given the question on a line, and what follows its first line does not count."""
    texts = ["A is red.\nB is", " Who is C?\nWho is D?", "?????\n", "B is blue."]
    calls = fake_answers(monkeypatch, texts)
    metrics = qa.evaluate_questions(tiny_model, tiny_tokenizer, TASK, EXAMPLES, arguments)
    assert metrics["facts/exact_match"].value == 0.5
    # a row of question marks asks nothing
    assert metrics["facts/continues_with_question"].value == 0.25
    assert calls[0]["prompts"] == [example.prompt + "\n" for example in EXAMPLES]
    assert calls[0]["one_line"] and not calls[0]["chat"]


def choose(model, tokenizer, task: Task, examples: list[Example]) -> list[str]:
    shots = [()] * len(examples)
    return qa.choose(task, qa.weigh(model, tokenizer, task, examples, shots, False, 64), examples)


@torch.inference_mode()
def test_choices_are_made_by_likelihood_per_byte(tiny_model, tiny_tokenizer, arguments) -> None:
    """The chosen candidate has the smallest loss a byte in a plain loop over all of them."""
    examples = TASKS["choices"].examples("test")[:6]
    task = Task("choices", lambda split: examples, score_choice, chance=random_choice, form=CHOICE)
    chosen = choose(tiny_model, tiny_tokenizer, task, examples)
    for example, choice in zip(examples, chosen, strict=True):
        (start,) = encode_prompts(tiny_tokenizer, [example.prompt], False)
        costs = []
        for candidate in example.choices:
            (whole,) = encode_plain(tiny_tokenizer, [example.prompt + "\n" + candidate])
            end = whole[len(start) :]  # as lm-eval parts them; alone, the line break may be another token
            labels = torch.tensor([[-100] * len(start) + end])
            loss = tiny_model(torch.tensor([start + end]), labels=labels, use_cache=False).loss.item()
            costs.append(loss * len(end) / len(candidate.encode()))
        assert choice == example.choices[costs.index(min(costs))]
    metrics = qa.evaluate_questions(tiny_model, tiny_tokenizer, task, examples, arguments)
    right = [
        choice == example.choices[example.label] for choice, example in zip(chosen, examples, strict=True)
    ]
    assert metrics["choices/accuracy"].value == pytest.approx(sum(right) / 6)
    assert metrics["choices/accuracy"].chance == 0.25
    assert "choices/continues_with_question" not in metrics


@torch.inference_mode()
def sum_of_logs(model, tokenizer, start: list[int], text: str) -> tuple[float, bool]:
    """Log-likelihood of a text in nats, one token after the other, and whether greed writes it."""
    (end,) = encode_plain(tokenizer, [text])
    total, greedy = 0.0, True
    for count, token in enumerate(end):
        logits = model(torch.tensor([start + end[:count]]), use_cache=False).logits[0, -1]
        total += logits.log_softmax(-1)[token].item()
        greedy = greedy and int(logits.argmax()) == token
    return total, greedy


def test_minimal_pairs_are_whole_sentences(tiny_model, tiny_tokenizer) -> None:
    """The likelier sentence from the beginning of a document, in a chat model too, whatever its length."""
    tiny_tokenizer.eos_token = IM_END
    pairs = [
        ("The dog sleep.", "The dogs that I have sleep."),
        ("A hat is red.", "A hat are red."),
        ("x", "xy"),
    ]
    examples = [Example("", pair[:1], "pair", pair[0], pair, 0) for pair in pairs]
    task = Task("pairs", lambda split: examples, **FORMS["pair"])
    chosen = choose(tiny_model, tiny_tokenizer, task, examples)
    assert not qa.asks_in_chat(tiny_tokenizer, task, None)
    begin = [tiny_tokenizer.bos_token_id]
    for pair, choice in zip(pairs, chosen, strict=True):
        likelihoods = [sum_of_logs(tiny_model, tiny_tokenizer, begin, " " + text)[0] for text in pair]
        assert choice == pair[likelihoods.index(max(likelihoods))]
    # by the byte another sentence would be chosen
    assert chosen[0] == "The dog sleep."


def test_last_words_count_where_greed_writes_them(tiny_model, tiny_tokenizer, arguments) -> None:
    """Accuracy of the greedy word, perplexity of the given one, the commonest word as chance."""
    (start,) = encode_plain(tiny_tokenizer, ["The dog"])
    with torch.inference_mode():
        ranked = (
            tiny_model(torch.tensor([start]), use_cache=False).logits[0, -1].argsort(descending=True).tolist()
        )
    words = [tiny_tokenizer.decode([token]) for token in ranked]
    # the likeliest word, made so for this test, and one that is not
    written = next(
        place for place, word in enumerate(words) if word.startswith(" ") and word.strip().isalpha()
    )
    with torch.no_grad():
        tiny_model.get_output_embeddings().weight[ranked[:written]] *= 0
    examples = [Example("The dog", (word,), "cloze", word) for word in (words[written].strip(), "xylophone")]
    task = Task("last", lambda split: examples, **FORMS["cloze"])
    metrics = qa.evaluate_questions(tiny_model, tiny_tokenizer, task, examples, arguments)
    found = [sum_of_logs(tiny_model, tiny_tokenizer, start, " " + row.references[0]) for row in examples]
    assert metrics["last/accuracy"].value == sum(greedy for _, greedy in found) / 2
    assert metrics["last/accuracy"].chance == 0.5
    perplexity = metrics["last/perplexity"]
    assert perplexity.value == pytest.approx(math.exp(-sum(total for total, _ in found) / 2), rel=1e-4)
    assert perplexity.ci95[0] <= perplexity.value <= perplexity.ci95[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who is it?", True),
        ("谁来了？", True),
        ("من هذا؟", True),
        ("谁来了。", False),
        ("？？", False),
        ("Who?", False),
    ],
)
def test_questions_of_every_script(text: str, expected: bool) -> None:
    """A question mark, and at least two words before it."""
    assert qa.is_question(text) == expected


def test_baselines_stand_beside_chance(tiny_model, tiny_tokenizer, arguments) -> None:
    """The longest candidate is right once, the commonest place twice, a guess in a third of three cases."""
    rows = [(("a", "bb", "c"), 1), (("a", "bb", "cc"), 0), (("aaa", "b", "c"), 1)]
    examples = [Example("Q", (row[at],), "q", "Q", row, at) for row, at in rows]
    task = Task("choices", lambda split: examples, **FORMS["choice"])
    metric = qa.evaluate_questions(tiny_model, tiny_tokenizer, task, examples, arguments)["choices/accuracy"]
    assert metric.chance == pytest.approx(1 / 3)
    assert metric.baselines == {"longest": pytest.approx(1 / 3), "most_common_position": pytest.approx(2 / 3)}
    assert metric.n == 3
