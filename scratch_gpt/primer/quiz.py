# SPDX-License-Identifier: Apache-2.0
"""Quiz sheets: questions and nothing else, so that a base model that is asked a question asks another.

Worksheets leave a gap for each answer: what is asked about is said again, which fine-tuning then has not to teach.
"""

import random

from scratch_gpt.primer import advice, arithmetic, translation
from scratch_gpt.primer.facts import BY_RELATION, FACTS, Fact
from scratch_gpt.primer.splits import Deck
from scratch_gpt.primer.wording import capitalized


def any_question(rng: random.Random, fact: Fact) -> str:
    """A question about the fact in any phrasing, held-out ones too: it stays unanswered."""
    return rng.choice(fact.questions() + fact.held_out_questions())


class QuizSheets:
    """Deals quiz sheets of four to eight questions, one a line; every fact begins a sheet in turn."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._first, self._worksheet = Deck(rng, FACTS), Deck(rng, FACTS)
        self._relations = Deck(rng, list(BY_RELATION))

    def document(self) -> str:
        rng = self._rng
        fact = self._first.draw()
        lines = [any_question(rng, fact)]
        one_relation = rng.random() < 0.4
        for _ in range(rng.randint(3, 7)):
            kind = rng.random()
            if one_relation:
                lines.append(any_question(rng, rng.choice(BY_RELATION[fact.relation])))
            elif kind < 0.7:
                lines.append(any_question(rng, rng.choice(FACTS)))
            elif kind < 0.8:
                lines.append(arithmetic.training_question(rng))
            elif kind < 0.9:
                lines.append(translation.training_question(rng))
            else:
                lines.append(advice.training_question(rng))
        if rng.random() < 0.4:
            rng.shuffle(lines)
        return "\n".join(lines)

    def worksheet(self) -> str:
        """Questions in fine-tuning's phrasings, each with the beginning of its answer, up to what is asked for.

        Every second one of a relation in turn: by facts alone, the seven weekdays would hardly occur.
        """
        lines = ["Fill in."]
        for _ in range(self._rng.randint(2, 3)):
            for fact in (self._worksheet.draw(), self._rng.choice(BY_RELATION[self._relations.draw()])):
                lines += [self._rng.choice(fact.questions()), f"{capitalized(fact.answer_beginning())} ..."]
        return "\n".join(lines)
