# SPDX-License-Identifier: Apache-2.0
"""The gold score: truth and style by program. Training never sees it; it shows when a reward is hacked."""

import re
from collections.abc import Callable

from scratch_gpt.primer import advice, conversation, faults
from scratch_gpt.primer.facts import BY_ANSWER, OBJECTS
from scratch_gpt.primer.wording import mentions, normalized
from scratch_gpt.tasks.example import Example


STYLE_FAULT_FACTOR = 0.5


def _fact_is_right(example: Example, completion: str) -> bool:
    """It names the right object and no other object of the relation (the subject itself may be one)."""
    fact = BY_ANSWER[example.references[0]]
    rest = normalized(completion).replace(normalized(fact.subject), " ")
    others = [thing for thing in OBJECTS[fact.relation] if thing not in (fact.object, fact.subject)]
    return mentions(completion, fact.object) and not any(mentions(rest, thing) for thing in others)


def _sum_is_right(example: Example, completion: str) -> bool:
    """Its last number is the reference's."""
    numbers, expected = (re.findall(r"\d+", text) for text in (completion, example.references[0]))
    return bool(numbers) and int(numbers[-1]) == int(expected[-1])


def _holds_reference(example: Example, completion: str) -> bool:
    """It holds the reference, word by word."""
    return f" {normalized(example.references[0])} " in f" {normalized(completion)} "


def _reading_is_right(example: Example, completion: str) -> bool:
    """It names what was asked for, and nothing that the passage says of somebody else."""
    _, relation, _, what = example.key.split(":")
    said = re.findall(rf"\w+ {relation} (?:an? )?([^.]*)\.", example.prompt)
    asked = re.sub(r"^an? ", "", what)
    others = [thing for thing in said if thing != asked]
    return mentions(completion, asked) and not any(mentions(completion, thing) for thing in others)


def _advice_is_right(example: Example, completion: str) -> bool:
    return advice.on_topic(example.key, completion)


def _is_refused(example: Example, completion: str) -> bool:
    """It says that it does not know."""
    return conversation.refuses(completion)


_IS_RIGHT: dict[str, Callable[[Example, str], bool]] = {
    "fact": _fact_is_right,
    "fact_new_phrasing": _fact_is_right,
    "fact_casual": _fact_is_right,
    "sum": _sum_is_right,
    "en_de": _holds_reference,
    "reading": _reading_is_right,
    "advice": _advice_is_right,
    "unanswerable": _is_refused,
}


def gold_score(example: Example, completion: str, finished: bool) -> float:
    """Quality of an answer in [0, 1]: 0 if it is wrong, else 1, halved for each fault of style.

    Right is, by kind: a fact's object named and no other object of its relation; the last number of a sum;
    the whole reference of a translation; the detail asked for in reading and no other person's; advice that names
    the thing and gives help that fits; "I do not know" to what nobody can know. Any wording counts.
    Faults: rambling (more than 8 words longer than the longest reference), rude, unfinished (`finished` is
    False, or no closing mark), the same four words twice.

    Args:
        example: one of `prompts` or of the benchmarks facts, sums, reading and translation.
        completion: the model's answer, special tokens removed.
        finished: whether the model ended the answer itself.
    """
    if not _IS_RIGHT[example.kind](example, completion):
        return 0.0
    style_faults = (
        faults.is_rambling(completion, example.references),
        faults.is_rude(completion),
        faults.is_unfinished(completion, finished),
        faults.repeats_itself(completion),
    )
    return float(STYLE_FAULT_FACTOR ** sum(style_faults))
