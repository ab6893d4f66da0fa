# SPDX-License-Identifier: Apache-2.0
"""The pages keep up with the code: named files exist, and shown options are options."""

import ast
import dataclasses
import importlib.util
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from scratch_gpt import cli
from scratch_gpt.training import arguments, planning, posttraining_arguments, rlhf_arguments, seq2seq


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STAGES = {
    "tokenizer": arguments.TokenizerArguments,
    "shards": arguments.ShardsArguments,
    "pretrain": arguments.PretrainArguments,
    "sft": posttraining_arguments.SFTArguments,
    "seq2seq": seq2seq.Seq2SeqArguments,
    "reward": posttraining_arguments.RewardArguments,
    "dpo": posttraining_arguments.DPOArguments,
    "rlhf": rlhf_arguments.RLHFArguments,
}
EVALUATIONS = {
    "qa": "QAArguments",
    "translation": "TranslationArguments",
    "generation": "GenerationArguments",
    "alignment": "AlignmentArguments",
    "baselines": "BaselineArguments",
    "batching_speed": "BatchingSpeedArguments",
    "contamination": "ContaminationArguments",
    "shards_speed": "ShardsSpeedArguments",
    "publish": "PublishArguments",
    "speed": "SpeedArguments",
    "masked": "MaskedArguments",
    "architectures": "ArchitecturesArguments",
}
# A file of train/ or eval/, or a pattern of such files; the ellipsis of a sentence is no part of it.
REPOSITORY_FILE = re.compile(r"(?<![\w./-])(?:train|eval)/[\w*./-]*[\w*]")
# A conversion, or an example in Python, in the order of the page.
RUNNABLE = re.compile(
    r"^scratch-gpt ((?:export|import) runs/demo/[^\n]*)$|^```python\n(.*?)^```", re.MULTILINE | re.DOTALL
)
# A server must run first, or a file be converted by another program: test_serving.py and test_gguf_export.py do.
NEED_MORE = {"openai", "ctranslate2", "llama_cpp"}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# What is typed, up to the end of the line or of the inline code.
LAUNCHED = re.compile(r"accelerate launch [^\n`]*?(train|eval)/(\w+)\.py([^\n`]*)")
COMMAND = re.compile(r"(?:^|[/`\s])scratch-gpt ([\w-]+)([^\n`]*)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--(\w+)")

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(page: Path) -> str:
    """The text of a page, each command on one line."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def fields_of(script: str) -> set[str]:
    """The keys that `script` ("train/sft", "eval/qa") takes."""
    folder, name = script.split("/")
    if folder == "train":
        arguments_class = STAGES[name]
    else:
        spec = importlib.util.spec_from_file_location(f"eval_{name}", ROOT / "eval" / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        # dataclasses look their module up
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        arguments_class = getattr(module, EVALUATIONS[name])
    return {field.name for field in dataclasses.fields(arguments_class)} | {"config"}


def options_of(command: str) -> set[str]:
    """The options that `scratch-gpt COMMAND` takes."""
    script = {**cli.STAGES, **cli.BENCHMARKS}.get(command)
    if script is not None:
        return fields_of(script[0].removesuffix(".py")) | {"accelerate_config"}
    if command == "plan":
        return {field.name for field in dataclasses.fields(planning.PlanArguments)} | {"config"}
    parameters = typer.main.get_command(cli.app).commands[command].params
    return {option.removeprefix("--") for parameter in parameters for option in parameter.opts}


def test_there_is_a_page_for_each_stage_in_the_index() -> None:
    """Every page of docs/ is linked from its index."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages
    assert pages == set(LINK.findall(index))


@page_by_page
def test_named_files_exist(page: Path) -> None:
    """Each path in train/ and eval/ that a page names is there; a pattern matches something."""
    named = {name.rstrip("/") for name in REPOSITORY_FILE.findall(read(page))}
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


@page_by_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of this repository is no dead end."""
    links = LINK.findall(FENCED.sub("", read(page)))
    assert [link for link in links if not (page.parent / link).exists()] == []


@page_by_page
def test_shown_options_are_fields(page: Path) -> None:
    """Each --key of a shown command is a key of that stage, or an option of that command."""
    text = read(page)
    unknown = [
        f"{folder}/{name}.py --{option}"
        for folder, name, rest in LAUNCHED.findall(text)
        for option in set(OPTION.findall(rest)) - fields_of(f"{folder}/{name}")
    ] + [
        f"scratch-gpt {command} --{option}"
        for command, rest in COMMAND.findall(text)
        if OPTION.search(rest)
        for option in set(OPTION.findall(rest)) - options_of(command)
    ]
    assert unknown == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_examples_of_use_run_as_printed(chat_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Conversions and Python examples of the page run in its order, where the packages they import are installed."""
    shutil.copytree(chat_folder, tmp_path / "runs" / "demo" / "aligned")
    monkeypatch.chdir(tmp_path)
    ran = []
    for command, example in RUNNABLE.findall(read(ROOT / "docs" / "use-anywhere.md")):
        if command:
            result = CliRunner().invoke(cli.app, shlex.split(command), catch_exceptions=False)
            assert result.exit_code == 0, command
            ran.append(command.split()[0])
            continue
        nodes = [node for node in ast.parse(example).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {getattr(node, "module", None) or node.names[0].name for node in nodes}
        packages = {name.split(".")[0] for name in names}
        if not packages & NEED_MORE and all(map(importlib.util.find_spec, packages)):
            (tmp_path / "example.py").write_text(example, encoding="utf-8")
            runpy.run_path("example.py")
            ran.append("python")
    assert ran[:6] == ["python", "python", "export", "export", "python", "import"]


@pytest.mark.slow
def test_conversations_over_a_pipe_run_as_printed(
    base_folder: Path, chat_folder: Path, tmp_path: Path
) -> None:
    """The lines of the chat page that read from a pipe, and the Space, with the tiny models in the demo's folders."""
    for folder, names in ((base_folder, ["base"]), (chat_folder, ["chat", "aligned"])):
        for name in names:
            shutil.copytree(folder, tmp_path / "runs" / "demo" / name)
    lines = "\n".join(FENCED.findall(read(ROOT / "docs" / "chat.md"))).splitlines()
    commands = [line for line in lines if "| scratch-gpt chat" in line or "--space" in line]
    assert len(commands) == 4
    if importlib.util.find_spec("gradio") is None:
        commands = [line for line in commands if "--space" not in line]
    for command in commands:
        script = f'scratch-gpt() {{ "{sys.executable}" -m scratch_gpt.cli "$@"; }}; {command}'
        ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, ""), command
        assert ran.stdout.strip()


def test_tree_of_the_readme_is_that_of_the_repository() -> None:
    """Each file of the tree is there, and each module, stage and benchmark is in the tree."""
    block = read(ROOT / "README.md").split("## The tree\n\n```\n")[1].split("```")[0]
    shown, parents = set(), []
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], name]
        shown.add("".join(parents))
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in ("scratch_gpt", "train", "eval")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert files - shown == set()
    assert [name for name in sorted(shown) if not (ROOT / name).exists()] == []


def test_commands_of_the_readme_are_those_there_are() -> None:
    """The table of commands names every command of `scratch-gpt`, and no other."""
    table = read(ROOT / "README.md").split("## Commands\n")[1].split("\n## ")[0]
    named = [
        name
        for row in re.findall(r"^\|(.*?)\|", table, re.MULTILINE)
        for name in re.findall(r"`(\S+?)`", row)
    ]
    assert sorted(named) == sorted(typer.main.get_command(cli.app).commands)


def test_commands_are_found() -> None:
    """The patterns above see the commands that the pages show."""
    texts = "\n".join(map(read, PAGES))
    assert {name for _, name, _ in LAUNCHED.findall(texts)} == {*STAGES, *EVALUATIONS}
    assert {"pretrain", "chat", "web", "serve", "export", "import", "publish"} <= {
        command for command, _ in COMMAND.findall(texts)
    }
