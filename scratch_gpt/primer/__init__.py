# SPDX-License-Identifier: Apache-2.0
"""The primer: an embedded corpus of simple English with known truth, for every stage of training.

All of it is generated from small tables by a seed; nothing is downloaded and no third-party text is in it.
The split is by content: what a benchmark asks was answered in no fine-tuning row, whatever the wording.
Held-out facts are stated in the pretraining text (that is where a model learns them), but their questions are
answered nowhere. Imports `tasks` and `errors` alone.
"""

from scratch_gpt.primer.benchmarks import BENCHMARKS, benchmark
from scratch_gpt.primer.gold import gold_score
from scratch_gpt.primer.instructions import instructions, prompts
from scratch_gpt.primer.preferences import preferences
from scratch_gpt.primer.pretraining import MIXTURE, documents
from scratch_gpt.primer.splits import SPLITS, split_of
from scratch_gpt.primer.stories import story_coherence


__all__ = [
    "BENCHMARKS",
    "MIXTURE",
    "SPLITS",
    "benchmark",
    "documents",
    "gold_score",
    "instructions",
    "preferences",
    "prompts",
    "split_of",
    "story_coherence",
]
