# SPDX-License-Identifier: Apache-2.0
"""Short stories in which a want or a trouble has one fitting outcome, so that coherence can be checked."""

import random
from dataclasses import dataclass

from scratch_gpt.primer.splits import Item, distinct, split_of
from scratch_gpt.primer.wording import GIRLS, NAMES, mentions, normalized, sentences
from scratch_gpt.tasks.example import Example


@dataclass(frozen=True)
class Scenario:
    """A trouble and its outcome.

    Templates know {n} name, {f} friend, {x} the thing, and {he} {He} {his} {him}.

    Args:
        about: how a request describes the character ("who is thirsty").
        things: what {x} may be.
        beginnings: the trouble.
        endings: the outcome.
        resolution: any one of these words shows that the trouble was resolved.
    """

    about: str
    things: tuple[str, ...]
    beginnings: tuple[str, ...]
    endings: tuple[str, ...]
    resolution: tuple[str, ...]


SCENARIOS: dict[str, Scenario] = {
    "thirsty": Scenario(
        "who is thirsty and wants some {x}",
        ("water", "milk", "juice", "tea"),
        (
            "{n} is very thirsty. {He} wants some {x}.",
            "{n} ran in the sun. Now {n} is thirsty and asks for {x}.",
        ),
        (
            "{n} goes to the kitchen and drinks a big cup of {x}. Now {n} is not thirsty any more.",
            "Then {n} finds some {x} in the kitchen. {He} drinks the {x} and feels better.",
        ),
        ("drink", "drinks", "drank"),
    ),
    "hungry": Scenario(
        "who is hungry and wants some {x}",
        ("bread", "soup", "cake", "cheese", "rice"),
        (
            "{n} is very hungry. {He} wants some {x}.",
            "{n} worked all day. Now {n} is hungry and thinks of {x}.",
        ),
        (
            "{n} goes to the kitchen and eats some {x}. Now {n} is not hungry any more.",
            "Then {n} finds some {x} on the table. {He} eats the {x} and smiles.",
        ),
        ("eat", "eats", "ate"),
    ),
    "lost": Scenario(
        "who lost a {x}",
        ("hat", "ball", "book", "key", "ring", "shoe", "dog", "cat"),
        (
            "{n} lost {his} {x}. {He} is sad and looks for the {x}.",
            "{n} cannot see {his} {x}. The {x} is lost.",
        ),
        (
            "{n} looks under the bed. There {he} finds the {x}. Now {n} has the {x} again.",
            "{n} looks behind the door and finds the {x}. {n} is happy to have the {x} again.",
        ),
        ("find", "finds", "found"),
    ),
    "broken": Scenario(
        "who has a broken {x}",
        ("chair", "lamp", "cart", "kite", "clock"),
        ("{n} has a {x}. One day the {x} is broken.", "The {x} of {n} fell down. Now the {x} is broken."),
        (
            "{n} takes some glue and fixes the {x}. Now the {x} is as good as new.",
            "{n} gets a hammer and fixes the {x}. {n} can use the {x} again.",
        ),
        ("fix", "fixes", "fixed"),
    ),
    "dirty": Scenario(
        "who has a dirty {x}",
        ("coat", "shirt", "cup", "dog", "floor"),
        (
            "{n} looks at the {x}. The {x} is very dirty.",
            "The {x} of {n} is full of mud. {n} wants a clean {x}.",
        ),
        (
            "{n} takes soap and water and washes the {x}. Now the {x} is clean.",
            "{n} washes the {x} with warm water. Soon the {x} is clean and {n} is glad.",
        ),
        ("wash", "washes", "washed"),
    ),
    "cold": Scenario(
        "who is cold and has a {x}",
        ("coat", "scarf", "blanket"),
        ("It snows and {n} is cold. {n} has a {x}.", "The wind blows. {n} is cold, but {he} has a {x}."),
        (
            "{n} takes the {x}. The {x} is thick, and soon {n} is warm.",
            "So {n} gets the {x} from the box. With the {x}, {n} feels warm.",
        ),
        ("warm",),
    ),
    "tired": Scenario(
        "who is tired and sits on a {x}",
        ("bed", "sofa", "chair", "bench"),
        (
            "It is late and {n} is tired. {He} sits on a {x}.",
            "{n} walked all day. {n} is tired and sees a {x}.",
        ),
        (
            "{n} lies down on the {x} and sleeps. In the morning {n} is not tired any more.",
            "{n} closes {his} eyes on the {x}. {He} sleeps for a long time.",
        ),
        ("sleep", "sleeps", "slept"),
    ),
    "gift": Scenario(
        "who has a {x} for {f}",
        ("book", "cake", "ball", "flower", "kite"),
        ("{f} has a birthday. {n} has a {x} for {f}.", "{n} wants to make {f} happy. {n} has a nice {x}."),
        (
            "{n} gives the {x} to {f}. {f} likes the {x} and thanks {n}.",
            "{n} goes to {f} and gives {f} the {x}. {f} is happy.",
        ),
        ("give", "gives", "gave"),
    ),
    "stuck": Scenario(
        "who has a {x} in a tree",
        ("kite", "ball", "hat", "cat"),
        ("The {x} of {n} is up in a tree. {n} wants the {x} back.", "{n} sees {his} {x} high up in a tree."),
        (
            "{n} climbs the tree and gets the {x}. Now {n} has the {x} back.",
            "{n} takes a ladder and climbs up. {He} brings the {x} down.",
        ),
        ("climb", "climbs", "climbed"),
    ),
    "market": Scenario(
        "who wants to have a {x}",
        ("hat", "drum", "bag", "pot", "lamp"),
        (
            "{n} wants a {x}. {He} has some money and goes to the market.",
            "{n} has no {x}, but {he} has money.",
        ),
        (
            "{n} sees a fine {x} and buys it. {n} takes the {x} home.",
            "At the market {n} buys the {x}. {n} loves the new {x}.",
        ),
        ("buy", "buys", "bought"),
    ),
    "garden": Scenario(
        "who wants to grow {x}",
        ("roses", "beans", "carrots", "apples"),
        (
            "{n} has a garden. {n} plants seeds of {x}.",
            "{n} wants {x}. {He} puts seeds of {x} in the ground.",
        ),
        (
            "{n} gives the seeds water every day. Soon the {x} grow, and {n} is proud of the {x}.",
            "The sun shines and the rain falls. The {x} grow big. {n} shows the {x} to everybody.",
        ),
        ("grow", "grows", "grew"),
    ),
    "closed": Scenario(
        "who has a key for the {x}",
        ("door", "box", "gate", "chest"),
        (
            "The {x} is closed. {n} wants to look inside. {n} has a key.",
            "{n} stands at a closed {x} with a key.",
        ),
        (
            "{n} takes the key and opens the {x}. Now the {x} is open.",
            "With the key {n} opens the {x}. {n} looks inside and smiles.",
        ),
        ("open", "opens", "opened"),
    ),
    "dark": Scenario(
        "who is afraid of the dark and has a {x}",
        ("lamp", "candle", "torch"),
        (
            "The room is dark and {n} is afraid. {He} has a {x}.",
            "It is night. {n} is afraid, but there is a {x}.",
        ),
        (
            "{n} lights the {x}. In the light of the {x}, {n} is not afraid any more.",
            "{n} takes the {x} and makes light. Now {n} can see, and the {x} stays on.",
        ),
        ("light", "lights", "lit"),
    ),
}
_OPENERS = (
    "",
    "",
    "One day in {season}.",
    "It is a {weather} day.",
    "This is a story about {n}.",
    "Here is {n}.",
)
_KEYS = {
    split: [
        (scenario, name, thing)
        for scenario, told in SCENARIOS.items()
        for name in NAMES
        for thing in told.things
        if split_of(f"story:{scenario}:{name}:{thing}") == split
    ]
    for split in ("train", "dev", "test")
}


@dataclass(frozen=True)
class Story:
    """A story in two parts, and what it is about."""

    key: str
    about: str
    beginning: str
    ending: str


def story(rng: random.Random, split: str) -> Story:
    """A story about a (scenario, name, thing) of one side."""
    scenario, name, thing = rng.choice(_KEYS[split])
    told = SCENARIOS[scenario]
    he, his, him = ("she", "her", "her") if name in GIRLS else ("he", "his", "him")
    fields = {
        "n": name, "x": thing, "he": he, "He": he.capitalize(), "his": his, "him": him,
        "f": rng.choice([other for other in NAMES if other != name]),
        "season": rng.choice(("spring", "summer", "autumn", "winter")),
        "weather": rng.choice(("sunny", "windy", "rainy", "quiet", "fine")),
    }  # fmt: skip
    opener = rng.choice(_OPENERS)
    beginning = f"{opener} {rng.choice(told.beginnings)}".strip().format(**fields)
    return Story(
        key=f"story:{scenario}:{name}:{thing}",
        about=f"{name}, {told.about.format(**fields)}",
        beginning=beginning,
        ending=rng.choice(told.endings).format(**fields),
    )


def document(rng: random.Random) -> str:
    """A whole story."""
    told = story(rng, "train")
    return f"{told.beginning}{rng.choice((' ', chr(10)))}{told.ending}"


def ending_item(rng: random.Random, split: str) -> Item:
    """The beginning of a story, to be finished."""
    told = story(rng, split)
    return Item(Example(told.beginning, (told.ending,), "story", told.key), ())


def writing_item(rng: random.Random, split: str) -> Item:
    """A request for a whole story."""
    told = story(rng, split)
    ask = rng.choice(("Write a short story about {about}.", "Tell me a story about {about}."))
    return Item(
        Example(
            ask.format(about=told.about), (f"{told.beginning} {told.ending}",), "story_writing", told.key
        ),
        (),
    )


def ending_items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Beginnings of stories of one side."""
    return distinct(lambda: ending_item(rng, split), count)


def writing_items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Requests for stories of one side."""
    return distinct(lambda: writing_item(rng, split), count)


def story_coherence(example: Example, completion: str) -> float:
    """Share of what a fitting ending must have, in [0, 1], each counting the same.

    It names the main character; it names nobody whom the beginning did not name; it speaks of the thing that
    the story is about; it has a word that resolves the trouble; no sentence comes twice.
    """
    _, scenario, name, thing = example.key.split(":")
    told = SCENARIOS[scenario]
    said = [normalized(sentence) for sentence in sentences(completion)]
    met = [
        mentions(completion, name),
        not any(mentions(completion, other) and not mentions(example.prompt, other) for other in NAMES),
        mentions(completion, thing),
        any(mentions(completion, word) for word in told.resolution),
        bool(said) and len(said) == len(set(said)),
    ]
    return sum(met) / len(met)
