# SPDX-License-Identifier: Apache-2.0
"""The table of the shipped sizes, as Markdown: from their YAML files and the plan, so that it cannot drift."""

from pathlib import Path

from scratch_gpt.errors import UserError, did_you_mean_path
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.settings.parsing import parse, scripts_folder
from scratch_gpt.training.planning.estimate import GIB, Estimate, PlanArguments, estimate_run


SIZES = ("small", "medium", "base", "1.2b")
# Between these marks a Markdown file holds the table.
BEGIN, END = "<!-- sizes: begin -->", "<!-- sizes: end -->"
HEADER = (
    "size", "parameters", "layers", "hidden", "heads (key/value)", "MLP", "context", "vocabulary", "learning rate",
    "tokens a step", "tokens", "a parameter", "training FLOPs", "GiB",
)  # fmt: skip


def sizes_table() -> str:
    """One row a size; the memory is that of one process with the config's micro-batch in bfloat16."""
    rows = [HEADER, ("---",) + ("---:",) * (len(HEADER) - 1)]
    for size in SIZES:
        path = scripts_folder() / "train" / "configs" / size / "pretrain.yaml"
        arguments = parse(PlanArguments, ["--config", str(path), "--mixed_precision", "bf16"])
        rows.append(_row(size, estimate_run(arguments)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_sizes(path: str | Path) -> None:
    """Put the table between the two marks in the Markdown file at `path`; all else in it stays.

    Raises:
        UserError: there is no such file, or it is not UTF-8 or without the marks, and stays as it is.
    """
    path = Path(path)
    if not path.is_file():
        message = f"--output: no file {path}{did_you_mean_path(path)}"
        raise UserError("file_not_found", message, file=path)
    try:
        before, begin, rest = path.read_bytes().decode("utf-8").partition(BEGIN)
    except UnicodeDecodeError as error:
        message = f"--output: {path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        raise UserError("unreadable_file", message, file=path) from None
    _, end, after = rest.partition(END)
    if not (begin and end):
        message = f"--output: {path} has no place for the table: put the lines {BEGIN} and {END} there"
        raise UserError("unreadable_file", message, file=path)
    table = sizes_table()
    with atomic_write(path) as temporary:
        temporary.write_bytes(f"{before}{BEGIN}\n{table}{END}{after}".encode())


def _row(size: str, estimate: Estimate) -> tuple[str, ...]:
    config, tokens = estimate.config, estimate.tokens
    flops = tokens * sum(estimate.flops_per_token.values())
    return (
        f"`{size}`",
        f"{estimate.num_parameters / 1e6:,.0f} M",
        f"{config.num_hidden_layers}",
        f"{config.hidden_size}",
        f"{config.num_attention_heads} ({config.num_key_value_heads})",
        f"{config.intermediate_size}",
        f"{config.max_position_embeddings}",
        f"{config.vocab_size:,}",
        f"{estimate.scale.learning_rate:g}",
        f"{estimate.tokens_per_step:,}",
        f"{tokens / 1e9:.3g} B",
        f"{tokens / estimate.num_parameters:.0f}",
        f"{flops:.1e}",
        f"{sum(estimate.memory.values()) / GIB:.1f}",
    )
