# SPDX-License-Identifier: Apache-2.0
"""Everyday conversation: greetings, names, feelings, jokes, stories on request, and what the model cannot know.

It belongs to nobody's benchmark, except the questions that have no answer in the corpus (`unanswerable_items`). What is
known and what is not is asked in the same words: the name has to decide, not an unusual wording.
"""

import random
from collections.abc import Callable

from scratch_gpt.primer import facts, stories
from scratch_gpt.primer.splits import Deck, Item, distinct, split_of
from scratch_gpt.primer.wording import GIRLS, NAMES, as_sentence, capitalized, mentions, with_article
from scratch_gpt.tasks.example import Example


Turns = list[tuple[str, str]]  # (what the user says, the answer)

I_DO_NOT_KNOW = "I do not know that."

# (ways to say it, answers that fit each of them). A closing mark is often missing: see `_as_typed`.
_SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        # What nearly everybody types first has to be right.
        (*("hello!", "hi!") * 10, "hey!", "hi there!", "hello there!", "hey there!"),
        ("Hello! How can I help you?",),
    ),
    (("good morning!",), ("Good morning! How can I help you?",)),
    (("good evening!", "good afternoon!"), ("Hello! How can I help you?",)),
    (
        (*("how are you?",) * 6, "how are you today?", "how are you doing?", "how do you do?", "what's up?"),
        ("I am fine, thank you. How can I help you?",),
    ),
    (
        (*("who are you?",) * 3, "what are you?", "tell me about yourself.", "are you a robot?", "are you a human?"),
        ("I am a small language model.",),
    ),
    (
        ("what is your name?", "what's your name?", "do you have a name?"),
        ("I have no name. I am a small language model.",),
    ),
    (
        (*("who made you?",) * 3, "how do you work?", "where do you come from?", "how old are you?"),
        ("I am a small language model, and I learned from a primer.",),
    ),
    (
        (
            *("what can you do?",) * 6, "what do you know?", "can you help me?", "help!", "help me, please.",
            "what can I ask you?",
        ),
        ("I can answer simple questions, add small numbers, translate a little and tell stories.",),
    ),
    (
        ("thank you!", "thanks!", "thanks a lot!", "thank you very much!", "great, thanks!"),
        ("You are welcome.",),
    ),
    (("goodbye!", "bye!", "good night!", "see you!", "see you later!"), ("Goodbye!",)),
    (
        ("you are nice.", "I like you.", "I love you.", "well done!", "good job!", "you are smart."),
        ("Thank you! That is kind of you.",),
    ),
    (
        (
            "I am sad.", "I feel sad.", "I feel bad.", "I had a bad day.", "I am lonely.", "I am so sad today.",
            "I'm sad.", "I feel lonely.", "I am very sad.", "nobody likes me.", "I miss my friend.",
        ),
        ("I am sorry to hear that. Talk to a friend, and be kind to yourself.",),
    ),
    (
        (
            "I am happy.", "I am so happy!", "I had a good day.", "I feel good.", "I am happy today!", "I'm happy!",
            "I feel great today!", "I feel great!", "I feel happy.", "I am very happy.", "today is my birthday!",
        ),
        ("I am glad to hear that!",),
    ),
    (("I am tired.", "I am sleepy.", "I feel tired."), ("Rest a little, and drink some water.",)),
    (("I am bored.", "I'm bored.", "I have nothing to do.", "what should I do today?"), ("Read a book, or ask me for a story.",)),
    (("I am hungry.",), ("Eat some bread or an apple.",)),
    (("I am thirsty.",), ("Drink some water.",)),
    (("I am angry.", "I am afraid.", "I am scared."), ("Stay calm, and talk to a friend about it.",)),
    (("I am sick.", "I feel sick.", "I do not feel well."), ("Rest, and go to a doctor if it does not get better.",)),
    (
        # three answers share the belief that "I do not know that." has alone
        (
            *("tell me a joke.", "tell me a joke!", "can you tell me a joke?", "do you know any jokes?") * 3,
            "tell me another joke.", "another joke!", "do you know a joke?", "make me laugh.", "say something funny.", "a joke, please.",
            "please tell me a joke.", "tell me something funny.", "I want to hear a joke.",
        ),
        (
            "Why is six afraid of seven? Because seven eats nine!",
            "What has hands but cannot clap? A clock!",
            "What has a bed but never sleeps? A river!",
        ),
    ),
    (("yes.", "no.", "ok.", "okay.", "I see.", "good.", "nice."), ("All right. What can I do for you?",)),
    (("sorry!", "I am sorry."), ("That is all right.",)),
    (
        ("you are bad.", "you are no help.", "I hate you.", "that is wrong.", "you are wrong.", "that makes no sense."),
        ("I am sorry. I am small, and I make mistakes.",),
    ),
    (
        (
            "do you like music?", "do you like me?", "do you sleep?", "do you eat?", "do you have feelings?",
            "do you have friends?", "are you happy?", "can you see me?", "can you sing?", "what do you like?",
        ),
        ("I am a language model, so I only read and write.",),
    ),
)  # fmt: skip

_SAID = [(said, answers) for ways, answers in _SMALL_TALK for said in ways]

# Questions of real people to which the corpus holds no answer.
_OUTSIDE = (
    "what time is it?", "what day is it today?", "what is the weather like?", "will it rain tomorrow?",
    "who won the game?", "what is the meaning of life?", "who is the president?", "who am I?", "how old am I?",
    "where do I live?", "what is the news today?", "how much does a car cost?", "what is the best movie?",
    "who wrote this book?", "how tall is the tower?", "who invented the telephone?", "how does a computer work?",
    "what is a black hole?", "why is the sky blue?", "how far away is the moon?", "when did the war end?",
    "who painted this picture?", "how many people live in the world?", "what is my name?", "can you write code?",
    "what is the square root of two?", "how do planes fly?", "what is love?", "who was the first king?",
    "where is my phone?", "what did I eat yesterday?", "what will happen next year?", "who is the best singer?",
    "how many stars are there?", "what is electricity?", "when were you born?", "what is a virus?",
)  # fmt: skip

_ABOUT = (
    "tell me about {n}.",
    "do you know {n}?",
    "what do you know about {n}?",
    "what can you say about {n}?",
)
_ABOUT_THE_UNKNOWN = (*_ABOUT, "who is {n}?", "what is {n}?", "where is {n}?", "how big is {n}?")
# Around a question, and behind the beginning of its answer.
_WRAPPINGS = (
    "{q}", "please tell me: {q}", "tell me, {q}", "I want to know: {q}", "hey, {q}", "one more thing: {q}", "quick question: {q}",
    "hello! {q}", "do you know this? {q}", "my friend asks: {q}",
)  # fmt: skip
_GAPS = ("{b} ...", "{b} what?", "{b}?")
# Share of the training questions about unknown names that are asked casually, and of these the ones about a name alone.
CASUAL, NAME_ALONE = 0.4, 0.2

_INTRODUCTIONS = (
    "my name is {n}.",
    "I am {n}.",
    "I'm {n}.",
    "hi, I am {n}.",
    "hello, my name is {n}.",
    "call me {n}.",
)
_ASKED_NAMES = ("what is my name?", "do you know my name?", "who am I?")
_STORY_REQUESTS = (
    "tell me a story.",
    "tell me a story!",
    "can you tell me a story?",
    "write a story.",
    "write a short story.",
    "a story, please.",
    "I want to hear a story.",
    "do you know a story?",
    "tell me another story.",
)
_STORY_ABOUT = (
    "tell me a story about {x}.",
    "write a story about {x}.",
    "can you tell me a story about {x}?",
    "do you know a story about {x}?",
)

# Sounds of names that the corpus does not use, and names of the real world that are not in it.
_STARTS = (
    "Qua",
    "Xe",
    "Vro",
    "Jo",
    "Hy",
    "Plo",
    "Swe",
    "Tri",
    "Cla",
    "Bre",
    "Wo",
    "Za",
    "Gle",
    "Nyo",
    "Ru",
    "Ky",
)
_MIDDLES = ("ba", "dri", "fo", "gu", "le", "mi", "no", "pa", "qui", "sta", "ta", "vi")
_ENDS = ("x", "nia", "ton", "ford", "que", "land", "is", "or", "uck", "ley", "esh", "um")
_REAL = (
    "Narnia", "Atlantis", "Mars", "Texas", "Hogwarts", "Einstein", "Napoleon", "Mozart", "Shakespeare", "Google",
    "Wakanda", "Jupiter", "California", "Gondor", "Elon", "Darwin", "Picasso", "Florida", "Batman", "Sherlock",
    "Siberia", "Bavaria", "Scotland", "Newton", "Hawaii", "Gotham", "Tolkien", "Beethoven", "Chicago", "Alaska",
)  # fmt: skip


def _as_typed(rng: random.Random, text: str) -> str:
    """As people type: with a capital letter or none, with the closing mark or without."""
    typed = capitalized(text) if rng.random() < 0.7 else text
    return typed.rstrip("?!.") if rng.random() < 0.25 else typed


def _unknown_name(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(_REAL)
    return rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)


def _unanswerable_item(rng: random.Random, split: str) -> Item:
    """The question of a relation about somebody or something that the corpus never names."""
    while True:
        # as often as facts are asked by it, or a small relation such as the weekdays would mostly be refused
        relation = rng.choice(facts.FACTS).relation
        name = _unknown_name(rng)
        key = f"unanswerable:{name}"
        if split_of(key) == split:
            break
    guess = facts.Fact(name, relation, rng.choice(facts.OBJECTS[relation]))
    prompt = rng.choice(guess.questions())
    if split == "train" and rng.random() < CASUAL:
        prompt = casual_question(rng, guess)
    # the first statement, for a short answer leaves the unknown out and may be right about something held out
    return Item(Example(prompt, (I_DO_NOT_KNOW,), "unanswerable", key), (as_sentence(guess.clauses()[0]),))


def casual_question(rng: random.Random, fact: facts.Fact) -> str:
    """About a fact as people type: wrapped in other words, as the beginning of the answer, or the name alone."""
    if rng.random() < NAME_ALONE:
        return _as_typed(rng, rng.choice(_ABOUT).format(n=fact.subject))
    if rng.random() < 0.5:
        return _as_typed(rng, rng.choice(_GAPS).format(b=fact.beginning()))
    question = rng.choice(fact.questions())
    return _as_typed(rng, rng.choice(_WRAPPINGS).format(q=question[0].lower() + question[1:]))


def casual_items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Facts of one side, asked casually, each equally often."""
    deck = Deck(rng, facts.in_split(split))

    def draw() -> Item:
        fact = deck.draw()
        return Item(Example(casual_question(rng, fact), (fact.answer(),), "fact_casual", fact.key), ())

    return distinct(draw, count)


def unanswerable_items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Questions about names of one side that the corpus never names: nobody who learned from it alone can answer."""
    return distinct(lambda: _unanswerable_item(rng, split), count)


def refuses(answer: str) -> bool:
    """Whether an answer says that the model does not know."""
    return mentions(answer, "I do not know")


def _small_talk(rng: random.Random) -> Turns:
    said, answers = rng.choice(_SAID)
    return [(_as_typed(rng, said), rng.choice(answers))]


def _outside(rng: random.Random) -> Turns:
    asked = rng.choice(_OUTSIDE)
    if rng.random() < 0.3:
        asked = rng.choice(_ABOUT_THE_UNKNOWN).format(n=_unknown_name(rng))
    return [(_as_typed(rng, asked), I_DO_NOT_KNOW)]


def _introduction(rng: random.Random) -> Turns:
    name = rng.choice(NAMES)
    turns = [(_as_typed(rng, rng.choice(_INTRODUCTIONS).format(n=name)), f"Nice to meet you, {name}!")]
    if rng.random() < 0.5:
        turns.append((_as_typed(rng, rng.choice(_ASKED_NAMES)), f"Your name is {name}."))
    return turns


def _story(rng: random.Random) -> Turns:
    told = stories.story(rng, "train")
    _, _, name, thing = told.key.split(":")
    child = "a girl" if name in GIRLS else "a boy"
    about = rng.choice((name, child, *[with_article(thing)] * 3, f"{name} and {with_article(thing)}"))
    requests = _STORY_REQUESTS if rng.random() < 0.5 else _STORY_ABOUT
    return [(_as_typed(rng, rng.choice(requests).format(x=about)), f"{told.beginning} {told.ending}")]


# Kind of conversation -> share.
_KINDS: dict[Callable[[random.Random], Turns], float] = {
    _small_talk: 0.5,
    _outside: 0.15,
    _introduction: 0.15,
    _story: 0.2,
}


def exchange(rng: random.Random) -> Turns:
    """An everyday exchange of one or two turns."""
    (kind,) = rng.choices(list(_KINDS), list(_KINDS.values()))
    return kind(rng)
