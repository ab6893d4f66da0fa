# SPDX-License-Identifier: Apache-2.0
"""Judged answers: pairs with a preferred one, and single answers that were liked or not."""

import json
import math
from collections.abc import Sequence
from typing import Any

from scratch_gpt import primer
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.data.rows.schema import OPTIONAL, Row, Schema, Values, all_rows
from scratch_gpt.data.rows.transcripts import read_transcript
from scratch_gpt.data.sources.bad_rows import BadRow, BadRows, UnusedRow
from scratch_gpt.data.sources.columns import checked_text
from scratch_gpt.data.sources.source import Source


# What a `winner` column says, in lower case -> the role of the better side; of a tie there is none.
WINNERS = {
    **dict.fromkeys(("model_a", "a", "response_a", "assistant_a"), "first"),
    **dict.fromkeys(("model_b", "b", "response_b", "assistant_b"), "second"),
    **dict.fromkeys(
        ("tie", "tie (bothbad)", "tie (inconsistent)", "bothbad", "both_bad", "both_good", "both"), None
    ),
}
# The keys of completions that are objects: of UltraFeedback, Nectar, StackExchange, OpenAssistant.
SCORES = ("overall_score", "score", "fine-grained_score", "pm_score")
COMPLETIONS = ("response", "answer", "text")
# What a `label` column says of one answer, as text in lower case: a thumb down, whatever the rows are for ...
DISLIKED = (
    "false",
    "thumbs_down",
    "thumbs down",
    "👎",
    "down",
    "dislike",
    "disliked",
    "rejected",
    "undesirable",
)
# ... and all that it may say where it is known to judge answers; elsewhere 0 or "negative" may be a class.
LABELS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "up", "thumbs_up", "good", "desirable"), True),
    **dict.fromkeys(("thumbs up", "👍", "like", "liked", "positive", "chosen", "accepted"), True),
    **dict.fromkeys((*DISLIKED, "0", "-1", "0.0", "-1.0", "no", "bad", "negative"), False),
}


def preference_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Pairs of answers to the same prompt, one preferred; arguments and errors as for `instruction_rows`.

    Returns:
        Rows {"prompt": messages, "chosen": [answer], "rejected": [answer], "margin": by how much the chosen one is
        better (0 where nothing says so), "source": name, "kind": group, "place": "file:row"}, and "tools" (JSON) where
        the row defines some.
    """
    return all_rows(sources, lambda: _primer_pairs(split, seed), PREFERENCES, bad_rows, seed)


def feedback_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Single answers, each liked or not; a pair is one of either. Arguments and errors as for `instruction_rows`.

    Returns:
        Rows {"prompt": messages, "completion": [answer], "label": liked, "source": name, "kind": group, "place":
        "file:row"}, and "tools" (JSON) where the row defines some.
    """

    def from_primer() -> list[Row]:
        return [row for pair in _primer_pairs(split, seed) for row in _unpaired(pair)]

    return all_rows(sources, from_primer, FEEDBACK, bad_rows, seed)


def good_answers(rows: Sequence[Row]) -> list[Row]:
    """The conversations that end with a preferred or liked answer, with their "messages"."""
    return [
        {**row, "messages": row["prompt"] + (row["chosen"] if "chosen" in row else row["completion"])}
        for row in rows
        if row.get("label", True)
    ]


def _primer_pairs(split: str, seed: int) -> list[Row]:
    keys = ("prompt", "chosen", "rejected", "kind")
    return [{**{key: row[key] for key in keys}, "margin": 0.0} for row in primer.preferences(split, seed)]


def _unpaired(pair: Row) -> list[Row]:
    shared = {key: value for key, value in pair.items() if key not in ("chosen", "rejected", "margin")}
    return [
        {**shared, "completion": pair[side], "label": side == "chosen"} for side in ("chosen", "rejected")
    ]


def _preference(values: Values) -> list[Row]:
    _judge(values)
    chosen, rejected = _side(values, "chosen"), _side(values, "rejected")
    if chosen[0]["role"] == rejected[0]["role"] == "assistant" and (
        "prompt" in values or "filled" in values or len(chosen) == len(rejected) == 1
    ):
        # The answers alone, as texts or as TRL's explicit layout has them.
        prompt = values.prompt()
        chosen, rejected = prompt + chosen, prompt + rejected
    else:
        values.refuse_template()
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise BadRow("chosen and rejected must end with a message of the assistant")
    shared = _shared_turns(chosen, rejected)
    asked = [any(message["role"] == "user" for message in turns) for turns in (chosen, chosen[:shared])]
    if not asked[0]:
        raise BadRow("chosen and rejected do not answer a message of the user")
    if not asked[1]:
        raise UnusedRow("chosen and rejected do not answer the same message of the user")
    if chosen == rejected:
        raise UnusedRow("chosen and rejected are equal")
    return [
        {
            "prompt": values.system(chosen) + chosen[:shared],
            "chosen": chosen[shared:],
            "rejected": rejected[shared:],
            "margin": _number(values.get("margin", 0.0), values.name("margin")),
            **values.common(),
        }
    ]


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> int:
    """How many messages are the prompt of both: those before the first answer that differs, or after which they part."""
    shared = 0
    for number, (one, other) in enumerate(zip(chosen, rejected, strict=False)):
        if one["role"] == other["role"] == "assistant":
            shared = number
        if one != other:
            break
    return shared


def _side(values: Values, side: str) -> list[Message]:
    """An answer, or the conversation that ends with it."""
    value = values[side]
    if isinstance(value, str) and ("prompt" not in values or value.lstrip().startswith("Human:")):
        values[side] = read_transcript(checked_text(value, values.name(side))) or value
    elif isinstance(value, int | float):
        raise BadRow(f"column {values.name(side)!r} holds no text but {type(value).__name__}")
    return values.answer(side)


def _judge(values: Values) -> None:
    """Let `chosen` and `rejected` be the sides that scores, a winner or a number say; UnusedRow for a tie."""
    if "completions" in values:
        values["chosen"], values["rejected"] = _best_and_worst(values)
    elif "first" in values:
        if "first_won" in values:
            _interleave(values)
        winner = _winner(values)
        if winner is None:
            raise UnusedRow("a tie: no answer is preferred")
        loser = "second" if winner == "first" else "first"
        for side, role in (("chosen", winner), ("rejected", loser)):
            values[side], values.names = values[role], {**values.names, side: values.name(role)}
    elif "score_chosen" in values and "score_rejected" in values:
        scores = [_number(values[role], values.name(role)) for role in ("score_chosen", "score_rejected")]
        if scores[0] == scores[1]:
            raise UnusedRow("chosen and rejected have the same score")
        if scores[0] < scores[1]:
            raise BadRow(f"the chosen answer has the lower score: {scores[0]:g} and {scores[1]:g}")


def _interleave(values: Values) -> None:
    """Make conversations of the arena's questions and answers of all turns, which are lists in JSON."""
    turns = {}
    for role in ("prompt", "first", "second"):
        try:
            turns[role] = json.loads(values.text(role))
        except ValueError:
            turns[role] = [values[role]]
        if not isinstance(turns[role], list):
            turns[role] = [values[role]]
    asked = turns.pop("prompt")
    for role, answers in turns.items():
        values[role] = [
            {"role": speaker, "content": text}
            for turn in zip(asked, answers, strict=False)
            for speaker, text in zip(("user", "assistant"), turn, strict=True)
        ]


def _winner(values: Values) -> str | None:
    if "winner" in values:
        said = str(values["winner"]).strip().lower()
        if said not in WINNERS:
            known = ", ".join(WINNERS)
            raise BadRow(f"column {values.name('winner')!r} says {values['winner']!r:.40}; known: {known}")
        return WINNERS[said]
    if "first_won" in values:
        won = [side for side in ("first", "second") if _flag(values, f"{side}_won")]
        return won[0] if len(won) == 1 else None
    if "strength" in values:
        # HelpSteer's goes from -3, the first is much better, to 3
        strength = _number(values["strength"], values.name("strength"))
        values.setdefault("margin", abs(strength))
        return ("first" if strength < 0 else "second") if strength else None
    if "score_first" in values:
        scores = [_number(values[role], values.name(role)) for role in ("score_first", "score_second")]
        return None if scores[0] == scores[1] else "first" if scores[0] > scores[1] else "second"
    # SHP's number is 1 where the first is better, PKU's is the place of the better one
    role, first = ("first_better", 1) if "first_better" in values else ("better_place", 0)
    return "first" if _flag(values, role) == first else "second"


def _flag(values: Values, role: str) -> int:
    """0 or 1, also as text: a .csv file has nothing else."""
    said = str(values[role]).strip().lower()
    flag = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}.get(said)
    if flag is None:
        raise BadRow(f"column {values.name(role)!r} must be 0 or 1, got {values[role]!r:.40}")
    return flag


def _best_and_worst(values: Values) -> tuple[str, str]:
    """Of scored completions, texts or objects of a text and a score or rank, the best and the worst."""
    column, completions = values.name("completions"), values["completions"]
    if "tree" in values and isinstance(completions, list):
        ranked = (reply for reply in completions if isinstance(reply, dict))
        completions = [reply for reply in ranked if reply.get("rank") not in (None, "")]
        if len(completions) < 2:
            raise UnusedRow(f"column {column!r} holds fewer than two ranked replies")
    if not isinstance(completions, list) or len(completions) < 2:
        raise BadRow(f"column {column!r} holds no list of two completions or more")
    if "scores" in values:
        scores = values["scores"]
        if not isinstance(scores, list) or len(scores) != len(completions):
            raise BadRow(f"column {values.name('scores')!r} holds no list of a score for each completion")
        completions = [
            {"response": text, "score": score} for text, score in zip(completions, scores, strict=True)
        ]
    scored = []
    for completion in completions:
        if not isinstance(completion, dict):
            raise BadRow(f"column {column!r}: a completion is no mapping: {completion!r:.60}")
        score = next((completion[key] for key in SCORES if completion.get(key) is not None), None)
        text = next((completion[key] for key in COMPLETIONS if completion.get(key) is not None), None)
        if score is None and completion.get("rank") is not None:
            score = -_number(completion["rank"], f"{column}.rank")  # the first is the best
        text = checked_text(text, f"{column}.{' or '.join(COMPLETIONS)}")
        scored.append((_number(score, f"{column}.{' or '.join(SCORES)} or rank"), text))
    best, worst = max(scored, key=lambda pair: pair[0]), min(scored, key=lambda pair: pair[0])
    if best[0] == worst[0]:
        raise UnusedRow("the best and the worst completion have the same score")
    return best[1], worst[1]


def _number(value: Any, column: str) -> float:
    """A number, also as text: a .csv file has nothing else."""
    try:
        number = math.nan if isinstance(value, bool | None) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRow(f"column {column!r} holds no finite number but {value!r:.40}")
    return number


def _feedback(values: Values) -> list[Row]:
    if "label" not in values:
        return [row for pair in _preference(values) for row in _unpaired(pair)]
    if values["label"] is None:
        raise UnusedRow(f"column {values.name('label')!r} is null: nobody judged the answer")
    label = LABELS.get(str(values["label"]).strip().lower())
    if label is None:
        raise BadRow(
            f"column {values.name('label')!r} says neither true nor false but {values['label']!r:.40}; known: "
            f"{', '.join(LABELS)}"
        )
    if "messages" in values:
        values.refuse_template()
        messages = values.messages("messages")
    else:
        messages = values.prompt() + values.answer("completion")
    *prompt, answer = messages
    if answer["role"] != "assistant" or not any(message["role"] == "user" for message in prompt):
        raise BadRow(
            "a judged conversation needs a message of the user and must end with one of the assistant"
        )
    shared = values.common()
    return [{"prompt": values.system(prompt) + prompt, "completion": [answer], "label": label, **shared}]


PAIR_LAYOUTS = (
    {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    {"prompt": "instruction", "context": "input", "chosen": "chosen", "rejected": "rejected"},
    {"prompt": "question", "chosen": "chosen", "rejected": "rejected"},
    {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"},  # LLaMA-Factory
    {"prompt": "instruction", "completions": "completions"},  # UltraFeedback
    {"prompt": "prompt", "completions": "completions", "scores": "scores"},
    {"prompt": "prompt", "completions": "responses", "scores": "scores"},
    {"prompt": "prompt", "completions": "generations", "scores": "ratings"},
    {"prompt": "instruction", "completions": "generations", "scores": "ratings"},
    {"prompt": "prompt", "completions": "completions"},
    {  # SHP, whose history is the prompt, and no list of earlier turns
        "prompt": "history",
        "history": "",
        "first": "human_ref_A",
        "second": "human_ref_B",
        "first_better": "labels",
    },
    {
        "prompt": "prompt",
        "first": "response_0",
        "second": "response_1",
        "better_place": "better_response_id",
    },  # PKU
    {"first": "conversation_a", "second": "conversation_b", "winner": "winner"},  # Chatbot Arena
    {"prompt": "prompt", "first": "response_a", "second": "response_b", "winner": "winner"},
    {  # Chatbot Arena's competition
        "prompt": "prompt",
        "first": "response_a",
        "second": "response_b",
        "first_won": "winner_model_a",
        "second_won": "winner_model_b",
    },
    {
        "prompt": "input.messages",
        "chosen": "preferred_output",
        "rejected": "non_preferred_output",
    },  # OpenAI's fine-tuning
    {"prompt": "prompt", "completions": "answers"},  # Nectar
    {"prompt": "question", "completions": "answers"},  # StackExchange
    {
        "prompt": "prompt.text",
        "completions": "prompt.replies",
        "tree": "message_tree_id",
    },  # OpenAssistant's trees
    {"prompt": "question", "chosen": "response_j", "rejected": "response_k"},  # StackExchange in pairs
    {
        "prompt": "context",
        "context": "",
        "first": "response1",
        "second": "response2",
        "strength": "overall_preference",
    },  # HelpSteer3
    {"prompt": "prompt", "first": "response_1", "second": "response_2", "strength": "preference_strength"},
    {
        "prompt": "question.full_text",
        "first": "answer_0",
        "second": "answer_1",
        "score_first": "score_0",
        "score_second": "score_1",
    },  # WebGPT
    {
        "prompt": "info.post",
        "first": "summaries.0.text",
        "second": "summaries.1.text",
        "better_place": "choice",
    },  # OpenAI's summaries
    {"prompt": "input", "completions": "generations", "scores": "rating"},  # distilabel
    {"chosen": "chosen", "rejected": "rejected"},
)
LABEL_LAYOUTS = tuple(
    {**answer, "label": label}
    for label in ("label", "kto_tag")  # TRL, LLaMA-Factory
    for answer in (
        {"prompt": "prompt", "completion": "completion"},
        {"prompt": "prompt", "completion": "response"},
        {"prompt": "instruction", "context": "input", "completion": "output"},
        {"prompt": "question", "context": "context", "completion": "answer"},
        {"messages": "messages"},
        {"messages": "conversations"},
    )
)
PAIR_OPTIONAL = OPTIONAL | {role: role for role in ("margin", "score_chosen", "score_rejected")}

PREFERENCES = Schema(
    PAIR_LAYOUTS,
    _preference,
    PAIR_OPTIONAL,
    elsewhere={
        **dict.fromkeys(("label", "kto_tag"), "answers that are judged one by one are for the kto stage"),
        **dict.fromkeys(
            ("completion", "messages", "conversations"), "one answer is no pair: the sft stage reads it"
        ),
    },
)
FEEDBACK = Schema((*LABEL_LAYOUTS, *PAIR_LAYOUTS), _feedback, PAIR_OPTIONAL, nullable=("label",))
