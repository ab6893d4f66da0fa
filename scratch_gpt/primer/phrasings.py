# SPDX-License-Identifier: Apache-2.0
"""How each kind of fact is said and asked.

In a template {s} is the subject, {o} the object, {a_s} and {a_o} the same with "a" or "an".
Statements are clauses (no capital, no full stop), so that they can stand inside a longer sentence.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """The wordings of one relation.

    Args:
        statements: declarative clauses. The first does not begin with the subject: in byte-level BPE a word at the
            beginning of an answer is another token than the same word inside the question, and a small model that
            learned to copy tokens cannot turn one into the other.
        questions: phrasings that fine-tuning uses.
        held_out_questions: phrasings that only benchmarks (and unanswered quiz sheets) use.
        short_answer: the model answer, if it is not the first statement. Where subject and object are of one kind, a
            small model that has to say both mixes them up ("The opposite of fast is slow", asked for that of slow).
    """

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    held_out_questions: tuple[str, ...]
    short_answer: str | None = None

    @property
    def answer(self) -> str:
        """The clause of the model answer."""
        return self.short_answer or self.statements[0]


RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        (
            "the capital of {s} is {o}",
            "{o} is the capital of {s}",
            "{s} has the capital {o}",
            "the capital city of {s} is called {o}",
            "the city of {o} is the capital of {s}",
            "in {s}, the capital is {o}",
            "as its capital, {s} has {o}",
        ),
        (
            "what is the capital of {s}?",
            "which city is the capital of {s}?",
            "can you tell me the capital of {s}?",
            "what is the name of the capital of {s}?",
        ),
        ("what is the capital city of {s}?", "do you know which city is the capital of {s}?"),
    ),
    "continent": Relation(
        (
            "the continent of {s} is {o}",
            "{s} is in {o}",
            "{s} is a country in {o}",
            "the country {s} lies in {o}",
            "{s} is on the continent of {o}",
            "in {o} there is a country called {s}",
        ),
        (
            "on which continent is {s}?",
            "in which part of the world is {s}?",
            "what is the continent of {s}?",
            "where in the world is {s}?",
            "which continent does {s} lie on?",
            "which continent is the one of {s}?",
        ),
        ("which continent is {s} on?",),
    ),
    "language": Relation(
        (
            "people in {s} speak {o}",
            "the language of {s} is {o}",
            "in {s}, people speak {o}",
            "{o} is the language of {s}",
            "{o} is spoken in {s}",
            "most people in {s} speak {o}",
        ),
        (
            "what language do people speak in {s}?",
            "what is the language of {s}?",
            "which language is spoken in {s}?",
            "what do people speak in {s}?",
            "which language is the one of {s}?",
            "what language does one hear in {s}?",
            "in which language do people talk in {s}?",
            "in which language do the people of {s} talk?",
            "what do the people in {s} speak?",
        ),
        ("which language do the people of {s} speak?",),
    ),
    "currency": Relation(
        (
            "the money of {s} is the {o}",
            "people in {s} pay with the {o}",
            "the currency of {s} is the {o}",
            "in {s}, people pay with the {o}",
            "the {o} is the money of {s}",
            "{s} uses the {o} as its money",
        ),
        (
            "what is the money of {s}?",
            "what is the currency of {s}?",
            "what money do people use in {s}?",
            "what do people pay with in {s}?",
        ),
        ("which currency does {s} use?",),
    ),
    "class": Relation(
        (
            "{a_s} is {a_o}",
            "every {s} is {a_o}",
            "the {s} is {a_o}",
            "we call the {s} {a_o}",
            "{a_s} belongs to the {o} group",
            "all people know that the {s} is {a_o}",
        ),
        (
            "what kind of animal is {a_s}?",
            "what sort of animal is the {s}?",
            "to which group of animals does the {s} belong?",
            "what class of animal is {a_s}?",
        ),
        ("which kind of animal is the {s}?",),
    ),
    "young": Relation(
        (
            "a young {s} is called {a_o}",
            "a baby {s} is called {a_o}",
            "{a_o} is a young {s}",
            "the baby of {a_s} is {a_o}",
            "the young of the {s} is the {o}",
            "{a_s} has a baby that is called {a_o}",
        ),
        (
            "what is a young {s} called?",
            "what do you call the baby of {a_s}?",
            "what do we call a young {s}?",
            "what is the name for a baby {s}?",
            "what do people call a baby {s}?",
        ),
        ("what is a baby {s} called?",),
    ),
    "sound": Relation(
        (
            "the sound of {a_s} is {a_o}",
            "{a_s} makes {a_o}",
            "the {s} can {o}",
            "{a_o} is the sound of {a_s}",
            "you hear {a_o} from {a_s}",
            "the {s} makes a sound called {a_o}",
        ),
        (
            "what is the sound of {a_s}?",
            "what sound does {a_s} make?",
            "which sound does the {s} make?",
            "what do you hear from {a_s}?",
        ),
        ("what kind of sound does {a_s} make?",),
    ),
    "opposite": Relation(
        (
            "the opposite of {s} is {o}",
            "{o} is the opposite of {s}",
            "{s} is the opposite of {o}",
            "the word {s} is the opposite of the word {o}",
            "{s} and {o} are opposites",
            "take {s}, and the opposite is {o}",
            "if one word is {s}, the opposite is {o}",
            "think of the word {s}: the opposite is {o}",
            "somebody says {s}, and the opposite is {o}",
            "the word is {s}. The opposite is {o}",
        ),
        (
            "what is the opposite of {s}?",
            "which word is the opposite of {s}?",
            "can you tell me the opposite of {s}?",
            "what word means the opposite of {s}?",
            "what is the word for the opposite of {s}?",
            "which word means the opposite of {s}?",
        ),
        ("do you know the opposite of {s}?",),
        short_answer="the opposite is {o}",
    ),
    "month": Relation(
        (
            "the month after {s} is {o}",
            "{o} comes right after {s}",
            "right after {s} comes {o}",
            "the month of {s} is followed by {o}",
            "{s} comes right before {o}",
            "after {s}, the next month is {o}",
            "when {s} is over, the next month is {o}",
            "if it is {s} now, the next month is {o}",
            "think of {s}: the next month is {o}",
            "this month is {s}. The next month is {o}",
        ),
        (
            "which month comes after {s}?",
            "what is the month after {s}?",
            "which is the next month after {s}?",
            "what month is it when {s} is over?",
            "which month comes right after {s}?",
            "what is the next month after {s}?",
        ),
        ("what month follows {s}?",),
        short_answer="the next month is {o}",
    ),
    "weekday": Relation(
        (
            "the day after {s} is {o}",
            "{o} comes right after {s}",
            "right after {s} comes {o}",
            "the day of {s} is followed by {o}",
            "{s} comes right before {o}",
            "after {s}, the next day is {o}",
            "when {s} is over, the next day is {o}",
            "if it is {s} now, the next day is {o}",
            "think of {s}: the next day is {o}",
            "today is {s}. The next day is {o}",
        ),
        (
            "which day comes after {s}?",
            "what is the day after {s}?",
            "which is the next day after {s}?",
            "what day is it when {s} is over?",
            "which day comes right after {s}?",
            "what is the next day after {s}?",
        ),
        ("what day follows {s}?",),
        short_answer="the next day is {o}",
    ),
    "river": Relation(
        (
            "the river of {s} is the {o}",
            "the river {o} flows through {s}",
            "{s} lies on the river {o}",
            "the {o} is the river of {s}",
            "through {s} flows the river {o}",
            "people in {s} swim in the river {o}",
        ),
        (
            "which river flows through {s}?",
            "what is the river of {s}?",
            "on which river does {s} lie?",
            "what is the name of the river in {s}?",
            "what is the river in {s} called?",
            "which river does one see in {s}?",
        ),
        ("what river does {s} have?",),
    ),
    "ruler": Relation(
        (
            "the ruler of {s} is {o}",
            "{o} is the ruler of {s}",
            "{o} rules {s}",
            "{s} is ruled by {o}",
            "the people of {s} follow {o}",
            "in {s}, the ruler is called {o}",
        ),
        (
            "who is the ruler of {s}?",
            "who rules {s}?",
            "can you tell me who rules over {s}?",
            "who is {s} ruled by?",
            "what is the ruler of {s} called?",
        ),
        ("what is the name of the ruler of {s}?",),
    ),
    "product": Relation(
        (
            "in {s}, people make {o}",
            "{s} is known for its {o}",
            "{s} makes {o}",
            "people in {s} make and sell {o}",
            "the best {o} comes from {s}",
            "{o} comes from {s}",
        ),
        (
            "what is {s} known for?",
            "which product comes from {s}?",
            "what does {s} make?",
            "what do the people of {s} make?",
            "what do the people in {s} make?",
            "what do they make in {s}?",
            "what is made in {s}?",
            "which things do people make in {s}?",
        ),
        ("what do people make in {s}?",),
    ),
    "job": Relation(
        (
            "the job of {s} is {o}",
            "{s} is {a_o}",
            "{s} works as {a_o}",
            "as a job, {s} is {a_o}",
            "{s} became {a_o}",
            "everybody calls {s} the {o}",
        ),
        (
            "what is the job of {s}?",
            "what work does {s} do?",
            "what does {s} work as?",
            "what does {s} do for a living?",
        ),
        ("which job does {s} have?",),
    ),
    "home": Relation(
        (
            "the home of {s} is in {o}",
            "{s} lives in {o}",
            "{s} has a house in {o}",
            "{o} is the home of {s}",
            "in {o} you can meet {s}",
            "{s} comes from {o}",
        ),
        (
            "where does {s} live?",
            "where is the home of {s}?",
            "in which town does {s} live?",
            "what is the home of {s}?",
        ),
        ("which town is the home of {s}?",),
    ),
    "pet": Relation(
        (
            "the pet of {s} is {a_o}",
            "{s} has {a_o} as a pet",
            "{s} has {a_o}",
            "{a_o} is the pet of {s}",
            "{s} keeps {a_o} at home",
            "at home, {s} has {a_o}",
        ),
        (
            "what is the pet of {s}?",
            "which animal does {s} have?",
            "what pet does {s} have?",
            "which pet lives with {s}?",
            "which animal is the pet of {s}?",
            "what kind of pet lives at the home of {s}?",
            "which animal lives with {s} as a pet?",
            "what animal does {s} have at home?",
            "which pet does {s} keep?",
            "which animal does {s} keep at home?",
            "what animal lives at the home of {s}?",
        ),
        ("what animal does {s} keep as a pet?",),
    ),
}
