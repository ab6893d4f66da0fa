# SPDX-License-Identifier: Apache-2.0
"""Which of sacreBLEU's tokenizers finds the words of a language: BLEU counts words, and not every script has spaces."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable

from sacrebleu.metrics import BLEU

from scratch_gpt.errors import UserError, wrong_value


logger = logging.getLogger(__name__)

# sacreBLEU's own default, for languages with spaces between words.
DEFAULT = "13a"
# It has none for the languages of South East Asia but the sentencepiece models of FLORES, which are downloaded.
BY_LANGUAGE = {
    "zh": "zh",
    "ja": "ja-mecab",
    "ko": "ko-mecab",
    **dict.fromkeys(("bo", "km", "lo", "my", "th"), "char"),
}
# The first word of the Unicode names of a script's letters.
SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "TIBETAN": "bo",
    "KHMER": "km",
    "LAO": "lo",
    "MYANMAR": "my",
    "THAI": "th",
}
CHOICES = ("13a", "char", "flores101", "flores200", "intl", "ja-mecab", "ko-mecab", "none", "zh")
# Letters that are looked at.
SAMPLE = 20_000


def language_by_script(texts: Iterable[str]) -> str | None:
    """The language of `BY_LANGUAGE` whose script most letters are of; None where that is another script."""
    letters = [character for text in texts for character in text if character.isalpha()][:SAMPLE]
    names = (unicodedata.name(letter, "").split(" ")[0] for letter in letters)
    counts = Counter(SCRIPTS.get(name.split("-")[0]) for name in names)
    if counts["ja"] * 10 > counts["zh"]:  # Japanese is Han with kana in between
        counts["ja"] += counts.pop("zh", 0)
    language, count = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return language if 2 * count > len(letters) else None


def choose_tokenizer(task: str, language: str | None, references: Iterable[str]) -> str:
    """The tokenizer for translations into `language`; None: by the script of the references.

    Where the one that sacreBLEU has for the language is not installed, characters are counted, and a warning says so.
    """
    language = language_by_script(references) if language is None else language.lower()
    name = BY_LANGUAGE.get(language or "", DEFAULT)
    try:
        BLEU(tokenize=name)
    except RuntimeError:  # without its packages
        logger.warning(
            '%s: BLEU counts characters (tokenizer char); for words (tokenizer %s) run pip install "sacrebleu[%s]"',
            task,
            name,
            language,
        )
        return "char"
    return name


def check_tokenizer(name: str) -> None:
    """Check a tokenizer that a user asks for.

    Raises:
        UserError: no such tokenizer, its packages or its model are missing.
    """
    if name not in CHOICES:
        raise wrong_value("bleu_tokenizer", name, f"one of {', '.join(CHOICES)}", choices=CHOICES)
    package = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}.get(name, "sentencepiece")
    try:
        BLEU(tokenize=name)
    except (RuntimeError, ImportError):
        message = f'bleu_tokenizer {name} needs more packages: pip install "{package}"'
        raise UserError("missing_package", message, package=package) from None
    except OSError as error:
        reason = " ".join(str(error).split())
        message = f"bleu_tokenizer {name}: its model cannot be downloaded ({reason}); char needs none"
        raise UserError("no_network", message, tokenizer=name) from None
