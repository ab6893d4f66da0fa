# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt STAGE ...` is `accelerate launch` of the stage's file; the other commands use what stages made.

Heavy imports wait inside the commands, so that help and a mistyped name answer at once.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from scratch_gpt import __version__
from scratch_gpt.command_group import CommandGroup
from scratch_gpt.errors import UserError
from scratch_gpt.launching import launch
from scratch_gpt.new.options import new
from scratch_gpt.settings.parsing import line_of_mistake, show_all_characters


# Command -> (file below the scripts folder, short help); the order is the order of the pipeline.
STAGES = {
    "tokenizer": ("train/tokenizer.py", "learn a BPE vocabulary"),
    "shards": ("train/shards.py", "text to token blocks"),
    "pretrain": ("train/pretrain.py", "blocks to a base model"),
    "sft": ("train/sft.py", "fine-tune on chats"),
    "seq2seq": ("train/seq2seq.py", "fine-tune on pairs"),
    "reward": ("train/reward.py", "train a reward model"),
    "dpo": ("train/dpo.py", "align on pairs (DPO)"),
    "kto": ("train/kto.py", "align on likes (KTO)"),
    "distill": ("train/distill.py", "learn from a larger one"),
    "rlhf": ("train/rlhf.py", "align on rewards (RL)"),
}
BENCHMARKS = {
    "qa": ("eval/qa.py", "questions and choices"),
    "translation": ("eval/translation.py", "BLEU and chrF"),
    "instructions": ("eval/instructions.py", "held-out instructions"),
    "generation": ("eval/generation.py", "bits per byte, stories"),
    "contamination": ("eval/contamination.py", "test items in the text"),
    "harness": ("eval/harness.py", "tasks of lm-eval"),
    "alignment": ("eval/alignment.py", "aligned models compared"),
}

app = typer.Typer(
    name="scratch-gpt",
    cls=CommandGroup,
    help="From raw text to an aligned chat model; every folder on the way is an ordinary Hugging Face model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    if asked:
        others = (f"{name} {metadata.version(name)}" for name in ("transformers", "torch"))
        print(f"scratch-gpt {__version__}", *others, sep=", ")
        raise typer.Exit


@app.callback()
def _begin(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show versions and exit."),
    ] = False,
) -> None:
    # Stages and benchmarks run in processes of their own.
    launched = context.invoked_subcommand in {*STAGES, *BENCHMARKS, "demo", "new"}
    if not launched and "--help" not in sys.argv:
        import scratch_gpt.registration  # noqa: F401


def _launching_command(script: str) -> Callable[..., None]:
    """A command that hands everything after its name to `script`, `--help` included."""

    def command(
        context: typer.Context,
        accelerate_config: Annotated[
            str | None, typer.Option("--accelerate_config", help="Launcher settings: a YAML file.")
        ] = None,
    ) -> None:
        raise typer.Exit(launch(script, context.args, accelerate_config))

    return command


@app.command(rich_help_panel="Start here", short_help="all stages, tiny corpus")
def demo(
    output_dir: Annotated[str, typer.Option("--output_dir", help="Where all stages write.")] = "runs/demo",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every stage.")] = 0,
) -> None:
    """Every stage on the embedded corpus; the same command resumes."""
    from scratch_gpt.demo import run_demo

    raise typer.Exit(run_demo(Path(output_dir), seed))


app.command(rich_help_panel="Start here", short_help="your text to a model")(new)


for _panel, _commands in (("Train, in order", STAGES), ("Benchmarks", BENCHMARKS)):
    for _name, (_script, _help) in _commands.items():
        app.command(
            _name,
            short_help=_help,
            rich_help_panel=_panel,
            add_help_option=False,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(_launching_command(_script))


@app.command(rich_help_panel="Benchmarks", short_help="results side by side")
def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="A B ...", help="Folders of models that benchmarks were run on.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", help="Draw the numbers into this PNG file too.")
    ] = None,
    all_kinds: Annotated[
        bool, typer.Option("--all", help="Also the numbers of each kind of example.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the drawn items.")] = 0,
) -> None:
    """The results of several models side by side, each against the first, with paired tests."""
    from scratch_gpt.evaluation.compare import compare_folders, comparison_lines

    scores, differences = compare_folders(models, all_kinds, seed)
    if output is not None:
        from scratch_gpt.report.figures import draw_comparison

        draw_comparison(scores, models, output)
    print("\n".join(comparison_lines(scores, differences)))


@app.command(
    rich_help_panel="Before training",
    short_help="memory, time, cost",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def plan(context: typer.Context) -> None:
    """What a pretraining run will need: parameters, memory, time, cost; the arguments of pretrain and a few more."""
    from scratch_gpt.settings.parsing import run_stage
    from scratch_gpt.training.planning.estimate import PlanArguments, plan_run, print_estimate

    run_stage(lambda arguments: print_estimate(plan_run(arguments)), PlanArguments, context.args)


@app.command(rich_help_panel="Before training", short_help="the shipped sizes")
def sizes(
    output: Annotated[
        str | None, typer.Option("--output", help="A Markdown file with the marks of such a table, to renew.")
    ] = None,
) -> None:
    """The shipped sizes, as a Markdown table."""
    from scratch_gpt.training.planning.sizes import sizes_table, write_sizes

    if output is None:
        print(sizes_table())
    else:
        write_sizes(output)


@app.command(rich_help_panel="Use a model", short_help="talk in the terminal")
def chat(
    model: Annotated[str, typer.Argument(help="Folder of a model.")],
    system: Annotated[str | None, typer.Option("--system", help="A system message.")] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Continue texts: what a base model can.")
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", help="0: always the likeliest token. Default: the model's."),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option("--top_p", help="Sample from this share of the probability.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top_k", help="Sample from this many of the likeliest tokens; 0: from all."),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max_new_tokens", help="Longest answer.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="Repeat the same answers.")
    ] = None,
) -> None:
    """Talk to a model, one message a line; /help lists what else can be typed, Ctrl-C stops an answer."""
    from scratch_gpt.serving.terminal import run_chat

    raise typer.Exit(
        run_chat(
            model,
            complete=complete,
            system=system,
            seed=seed,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_new_tokens=max_new_tokens,
        )
    )


@app.command(rich_help_panel="Use a model", short_help="talk in the browser")
def web(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL [MODEL2]", help="Folder of a model, or of two to compare.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "localhost",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: a free one.")
    ] = 7860,
    space: Annotated[
        str | None, typer.Option("--space", help="Write a Hub Space into this new folder instead.")
    ] = None,
) -> None:
    """A page to talk to a model, compare two and look inside, until Ctrl-C. There is no password: keep it on localhost."""
    if len(models) > 2:
        message = f"{len(models)} models: the page shows one or two"
        raise UserError("too_many_models", message, count=len(models))
    from scratch_gpt.serving.web import serve_page

    if space is None:
        serve_page(models, host, port)
    else:
        from scratch_gpt.serving.space import write_space

        write_space(models, space)
        print(f"wrote {space}: hf upload USER/NAME {space} --repo-type space")


@app.command(rich_help_panel="Use a model", short_help="OpenAI-compatible API")
def serve(
    model: Annotated[str, typer.Argument(help="Folder of a model.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "localhost",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: a free one.")
    ] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api_key",
            envvar="SCRATCH_GPT_API_KEY",
            help="Refuse requests without this key. Default: whoever reaches the port can use the model.",
        ),
    ] = None,
) -> None:
    """Answer OpenAI-compatible requests for a model, until Ctrl-C."""
    from scratch_gpt.serving.api_server import serve_model

    serve_model(model, host, port, api_key)


@app.command(rich_help_panel="Use a model", short_help="card and Hub upload")
def publish(
    model: Annotated[str, typer.Argument(help="Folder of a trained model.")],
    hub_model_id: Annotated[
        str | None, typer.Option("--hub_model_id", help="Upload to this Hub repository: user/name.")
    ] = None,
    hub_private_repo: Annotated[
        bool, typer.Option("--hub_private_repo", help="Create the repository as a private one.")
    ] = False,
    hub_revision: Annotated[
        str | None,
        typer.Option("--hub_revision", help="Upload to this branch, such as step-2000. Default: main."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry_run", help="Say what would go up and why it is safe; send nothing.")
    ] = False,
    license_: Annotated[
        str, typer.Option("--license", help="License of the weights, as the Hub spells it.")
    ] = "unknown",
    license_name: Annotated[
        str | None, typer.Option("--license_name", help="Name of the license, for --license other.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option("--language", help="Language of the model, such as en; repeatable.")
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option("--datasets", help="Data set of the Hub beside those that the run names; repeatable."),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base_model", help="Model of the Hub that this one was made from.")
    ] = None,
    base_model_relation: Annotated[
        str | None,
        typer.Option("--base_model_relation", help="finetune, adapter, merge or quantized."),
    ] = None,
) -> None:
    """Fill the model card from the run; with --hub_model_id, upload the folder to the Hub and load it from there."""
    from scratch_gpt.publishing import PublishArguments, run_publish

    run_publish(
        PublishArguments(
            model,
            license_,
            license_name,
            hub_model_id,
            hub_private_repo,
            hub_revision,
            dry_run,
            language,
            datasets,
            base_model,
            base_model_relation,
        )
    )


@app.command(rich_help_panel="Use a model", short_help="one page of a run")
def report(
    run_dir: Annotated[str, typer.Argument(help="Folder of a run: base/, chat/, ... or one model's folder.")],
) -> None:
    """Write report.html and pictures: losses, rewards, benchmarks, samples, data and cost of a run."""
    from scratch_gpt.report import write_report

    for path in write_report(run_dir):
        print(f"wrote {path}")


def _report(output_dir: str, notes: list[str]) -> None:
    print(f"wrote {output_dir}")
    for note in notes:
        print(f"note: {note}")


@app.command("import", rich_help_panel="Use a model", short_help="from Qwen3, Llama, GPT-2")
def import_(
    stock_dir: Annotated[
        str, typer.Argument(help="Folder of a GPT-2, Llama or Qwen3 model of transformers.")
    ],
    output_dir: Annotated[str, typer.Argument(metavar="OUT", help="A new folder.")],
) -> None:
    """Turn published weights into a checkpoint of this package, weight for weight."""
    from transformers.utils import logging

    from scratch_gpt.export.folders import import_folder

    logging.disable_progress_bar()
    _report(output_dir, import_folder(stock_dir, output_dir))


@app.command(rich_help_panel="Use a model", short_help="to transformers, GGUF")
def export(
    model: Annotated[str, typer.Argument(help="Folder of a trained model.")],
    output_dir: Annotated[str, typer.Argument(metavar="OUT", help="A new folder.")],
    to: Annotated[
        str | None,
        typer.Option("--to", help="qwen3, llama, gpt2, eurobert or gguf. Default: the model's dialect."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="f32, f16 or bf16, for gguf. Default: as saved.")
    ] = None,
) -> None:
    """Turn a checkpoint into an ordinary folder of transformers, no remote code needed, or into a GGUF file."""
    from transformers.utils import logging

    from scratch_gpt.export.folders import export_folder

    logging.disable_progress_bar()
    if to == "gguf":
        from scratch_gpt.export.gguf import export_gguf

        notes = export_gguf(model, output_dir, dtype)
    elif dtype is not None:
        message = f"--dtype {dtype} is for --to gguf: a transformers folder keeps the model's dtype"
        raise UserError("setting_without_effect", message, setting="dtype")
    else:
        notes = export_folder(model, output_dir, to)
    _report(output_dir, notes)


def main() -> None:
    """The `scratch-gpt` command: a user's mistake becomes one line and exit status 2."""
    show_all_characters()
    try:
        app(prog_name="scratch-gpt")
    except Exception as error:
        line = line_of_mistake(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
