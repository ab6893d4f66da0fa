# SPDX-License-Identifier: Apache-2.0
"""Whether an alignment gained anything where people meet it: at the decoding that the folder asks for."""

from collections.abc import Mapping

import numpy as np

from scratch_gpt.evaluation.benchmarks.alignment import DEFAULT, GREEDY
from scratch_gpt.evaluation.compare import Difference, paired_difference
from scratch_gpt.runs.results import Metric


Metrics = Mapping[str, Metric]


def changes(before: Metrics, after: Metrics, seed: int) -> dict[str, Difference]:
    """How much more each measure is after than before, on the same items, by the paired bootstrap."""
    found = {}
    for name, metric in after.items():
        old, new = before[name].items, metric.items
        if old is not None and new is not None and len(old.rows) == len(new.rows):
            rows = np.array(new.rows), np.array(old.rows)
            found[name] = paired_difference(*rows, new.statistic, seed, clusters=new.clusters)
    return found


def verdict(before: Metrics, after: Metrics, changed: Mapping[str, Difference]) -> str:
    """One line: the gold score at the default decoding before and after, and whether that is a gain.

    It is one where the difference is significant (p < 0.05) and the greedy score is not lower. Without a gold score the
    reward is shown, which is what was optimized and decides nothing.
    """
    judge = "gold" if f"{DEFAULT}/gold" in after else "reward"
    name = f"{DEFAULT}/{judge}"
    change = changed[name]
    if not any(difference.value for difference in changed.values()):
        return (
            f"{judge.capitalize()} score at the default decoding: {before[name].value:.3f}, no gain at this size: no step was "
            "better on dev prompts, and the model before is kept"
        )
    line = (
        f"{judge.capitalize()} score at the default decoding: {before[name].value:.3f} -> {after[name].value:.3f}, "
        f"{change.value:+.3f} [{change.ci95[0]:+.3f}, {change.ci95[1]:+.3f}], p = {change.p_value:.3f}"
    )
    if judge == "reward":
        return f"{line}; the reward is what was optimized: it does not show that answers are better"
    greedy = changed[f"{GREEDY}/gold"].value
    if change.value > 0 and change.is_significant and greedy >= 0:
        return f"{line}: a gain; greedy {greedy:+.3f}"
    return f"{line}: no gain at this size (a gain has p < 0.05 and greedy answers no worse); greedy {greedy:+.3f}"
