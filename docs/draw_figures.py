# SPDX-License-Identifier: Apache-2.0
"""Draw the figures of the walk: the mask, the rotary angles, the learning rate, when looking up is learned.

python docs/draw_figures.py docs/images
"""

import re
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM, ScratchGPTForMaskedLM
from scratch_gpt.data.collators.packed import PackedCollator
from scratch_gpt.modeling_scratch_gpt import ScratchGPTRotaryEmbedding
from scratch_gpt.report.figures import COLORS, STYLE
from scratch_gpt.training.pretrain.optimization import make_schedule


MEASURED = Path(__file__).parent / "results" / "looking-up.md"


def mask() -> Figure:
    """What each token of a packed block attends to, in a decoder and in an encoder."""
    block = np.array([7, 8, 9, 0, 5, 6, 0, 1])
    batch = PackedCollator(eos_token_id=0, pad_token_id=1)([block])
    del batch["labels"]
    shape = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    for place, (title, kind) in enumerate(
        {"decoder": ScratchGPTForCausalLM, "encoder": ScratchGPTForMaskedLM}.items(), start=1
    ):
        config = ScratchGPTConfig(**shape, is_causal=title == "decoder", attn_implementation="eager")
        with torch.no_grad():
            weights = kind(config).eval()(**batch, use_cache=False, output_attentions=True).attentions[0]
        axes = figure.add_subplot(1, 2, place, title=title, xlabel="may look at", ylabel="token that looks")
        axes.imshow((weights[0, 0] > 0).float().numpy(), cmap="Blues", vmin=0, vmax=1.4)
        names = [{0: "end", 1: "pad"}.get(token, str(token)) for token in block]
        axes.set_xticks(range(len(block)), names)
        axes.set_yticks(range(len(block)), names)
        for edge in np.arange(0.5, len(block) - 1):
            axes.axhline(edge, color="white", linewidth=1)
            axes.axvline(edge, color="white", linewidth=1)
        axes.grid(visible=False)
    return figure


def rotary() -> Figure:
    """The cosine of each pair's angle against the position, for a head 16 wide."""
    cosines, _ = ScratchGPTRotaryEmbedding(ScratchGPTConfig(hidden_size=64, num_attention_heads=4))(
        torch.zeros(1), torch.arange(64)[None]
    )
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.add_subplot(xlabel="position", ylabel="cosine of the angle")
    for color, pair in zip(COLORS, (0, 1, 2, 4)):
        axes.plot(cosines[0, :, pair].numpy(), color=color, label=f"pair {pair + 1} of 8")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    return figure


def schedule() -> Figure:
    """The factor on the learning rate over a run of 1,000 steps."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="factor on learning_rate")
    for color, name in zip(COLORS, ("warmup_stable_decay", "cosine")):
        factor = make_schedule(name, max_steps=1000, warmup_steps=50, decay_ratio=0.3)
        axes.plot([factor(step) for step in range(1000)], color=color, label=name)
    axes.legend(frameon=False)
    return figure


def looking_up() -> Figure:
    """The columns of the table of measurements against the step."""
    rows = re.findall(r"^\| ([\d,]+) \|[^|]*\| (.*) \|$", MEASURED.read_text(encoding="utf-8"), re.MULTILINE)
    steps = [int(step.replace(",", "")) for step, _ in rows]
    shares = np.array([[float(share) for share in row.split(" | ")] for _, row in rows])
    figure = Figure(figsize=(6.4, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="right value most likely", xscale="log")
    labels = ("Nina ball", "Nina: ball.", "Nina has a ball.", "passage of 4")
    for color, label, column in zip(COLORS, labels, (0, 1, 2, 6)):
        axes.plot(steps, shares[:, column], color=color, label=label, marker="o", markersize=3)
    axes.axhline(0.25, color="grey", linestyle=":", label="chance")
    axes.set_xticks(
        [100, 200, 300, 400, 600, 1000, 2000], ["100", "200", "300", "400", "600", "1,000", "2,000"]
    )
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=7)
    return figure


FIGURES = {"mask": mask, "rotary": rotary, "schedule": schedule, "looking-up": looking_up}


def main(folder: str) -> None:
    """Write each figure as SVG. The same code and versions give the same file."""
    for name, draw in FIGURES.items():
        with matplotlib.rc_context(STYLE):
            draw().savefig(Path(folder) / f"{name}.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main(*sys.argv[1:])
