# SPDX-License-Identifier: Apache-2.0
"""Which documents are left out of the training text: too short, too long, or repeating themselves.

No rule knows a language. Repetition is measured as for MassiveText (Rae et al. 2021, "Scaling Language Models: Methods,
Analysis & Insights from Training Gopher", table A1): the share of a document that was already said in it. For web text
their limits are 0.20 for lines and 0.15 for sequences of five words. Those would cost books their refrains, so the
defaults here leave out only what is mostly repetition.
"""

from dataclasses import dataclass, fields
from typing import Any

from scratch_gpt.errors import UserError, did_you_mean, wrong_value
from scratch_gpt.tasks.words import units


# In shorter documents nothing is judged: they repeat themselves by chance (50 words: Gopher's shortest document).
JUDGED_LINES = 10
JUDGED_WORDS = 50
NGRAM = 5
# Longer "words" on average mean text without spaces: there, each character counts as a word.
CHARACTERS_PER_WORD = 20


@dataclass(frozen=True)
class Filters:
    """The `filters:` of a source; a document that breaks a rule is left out and counted under the rule's name.

    Args:
        min_characters: shorter documents are left out.
        max_characters: longer documents are left out; None: no limit.
        max_repeated_lines: largest share of the characters that are in lines met before; None: not judged.
        max_repeated_ngrams: largest share of the sequences of five words that were met before; None: not judged.
    """

    min_characters: int = 0
    max_characters: int | None = None
    max_repeated_lines: float | None = 0.7
    max_repeated_ngrams: float | None = 0.7

    def broken_rule(self, text: str) -> str | None:
        """The name of the first rule that `text` breaks, None for a text to keep."""
        if len(text) < self.min_characters:
            return "min_characters"
        if self.max_characters is not None and len(text) > self.max_characters:
            return "max_characters"
        if self.max_repeated_lines is not None and repeated_lines(text) > self.max_repeated_lines:
            return "max_repeated_lines"
        if self.max_repeated_ngrams is not None and repeated_ngrams(text) > self.max_repeated_ngrams:
            return "max_repeated_ngrams"
        return None


RULES = tuple(field.name for field in fields(Filters))
NO_FILTERS = Filters(max_repeated_lines=None, max_repeated_ngrams=None)


def parse_filters(declared: Any, name: str) -> Filters:
    """The `filters:` of the source called `name`: a mapping, true for the defaults, or false for none.

    Raises:
        UserError: another type, an unknown rule, a value that makes no sense.
    """
    if isinstance(declared, bool):
        return Filters() if declared else NO_FILTERS
    if not isinstance(declared, dict):
        raise wrong_value(
            "filters", declared, f"true, false or a mapping of {', '.join(RULES)}", where=f"{name}: "
        )
    for key, value in declared.items():
        if key not in RULES:
            message = f"{name}: unknown filter {key!r}{did_you_mean(key, RULES)} (known: {', '.join(RULES)})"
            raise UserError("unknown_key", message, key=key)
        if value is None and key != "min_characters":
            continue
        characters = key.endswith("characters")
        if isinstance(value, bool) or not isinstance(value, int if characters else int | float):
            raise wrong_value(key, value, f"a {'whole ' * characters}number", where=f"{name}: filter ")
        if not 0 <= value <= (float("inf") if characters else 1):
            raise wrong_value(
                key, value, "at least 0" if characters else "between 0 and 1", where=f"{name}: filter "
            )
    filters = Filters(**declared)
    if filters.max_characters is not None and filters.max_characters < filters.min_characters:
        message = f"{name}: filter max_characters {filters.max_characters} is below min_characters {filters.min_characters}"
        raise UserError("settings_conflict", message, setting="max_characters", other="min_characters")
    return filters


def repeated_lines(text: str) -> float:
    """Share of the characters that are in repeats of a line; 0 for few lines."""
    if text.count("\n") < JUDGED_LINES - 1:
        return 0.0
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    if len(lines) < JUDGED_LINES:
        return 0.0
    return 1 - sum(map(len, set(lines))) / sum(map(len, lines))


def repeated_ngrams(text: str) -> float:
    """Share of the sequences of five words that are repeats of one; 0 for few words."""
    words = units(text)
    if len(words) * CHARACTERS_PER_WORD < len(text):
        words = list("".join(words))
    if len(words) < JUDGED_WORDS:
        return 0.0
    ngrams = set(zip(*(words[start:] for start in range(NGRAM))))
    return 1 - len(ngrams) / (len(words) - NGRAM + 1)
