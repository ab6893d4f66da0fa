# SPDX-License-Identifier: Apache-2.0
"""One question with its acceptable answers: the unit that instruction data, rewards and benchmarks share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """What is asked, and what counts as an answer.

    Args:
        prompt: the user's message, as it would be typed in a chat.
        references: acceptable answers; the first is the model answer that instruction tuning teaches.
        kind: the group under which scores are reported ("fact", "sum", "translation" ...).
        key: identity of the *content* that is asked, whatever the phrasing. Splits are made by it: two examples
            with the same key are on the same side.
        choices: for multiple choice, the candidate answers, else empty.
        label: index of the right answer in `choices`.
    """

    prompt: str
    references: tuple[str, ...]
    kind: str
    key: str
    choices: tuple[str, ...] = ()
    label: int = 0
