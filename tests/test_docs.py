# SPDX-License-Identifier: Apache-2.0
"""The pages keep up with the code: what they quote stands there, what they print comes out, what they show can be typed.

Of the commands in the pages, each is at least parsed as its stage would; `NOT_PARSED` names the programs of others, which
are not. Executed are, here: the typed Python of the walk and the primer, the Python examples, the how-tos, the guide to
tuning published models, the pipes of the chat page and the conversions; in test_encoders_page.py and test_upload.py (the guide to publishing) those pages, in
test_api_server.py the requests to the server.
"""

import ast
import contextlib
import dataclasses
import difflib
import doctest
import functools
import importlib
import importlib.util
import io
import itertools
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import draw_figures
import error_pages
import key_pages
import pytest
import refresh
import typer.main
import yaml
from accelerate.commands.launch import launch_command_parser
from typer.testing import CliRunner

from scratch_gpt import cli, primer
from scratch_gpt.data.sources.source import Source
from scratch_gpt.evaluation.benchmarks.public import LAYOUT_KEYS
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.planning.estimate import PlanArguments
from scratch_gpt.training.rl.reward_functions import check_rewards
from stock_folders import write_stock_folder


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(cli.app).commands
# Programs of others in the pages; what they are given is not looked at.
NOT_PARSED = {
    *("make", "pip", "sbatch", "hf", "curl"),
    *(
        "transformers",
        "vllm",
        "text-generation-launcher",
        "llama-cli",
        "ollama",
        "ct2-transformers-converter",
    ),
    *("lm_eval", "python -m"),
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTED_FROM = re.compile(r"# (?:scratch_gpt|train|eval)/\S+\.py: ")
# A file of train/ or eval/, or a pattern of such files; the ellipsis of a sentence is no part of it.
REPOSITORY_FILE = re.compile(r"(?<![\w./-])(?:train|eval)/[\w*./-]*[\w*]")
SCRIPT = re.compile(r"(?:train|eval(?:/engineering)?)/\w+\.py")
PAGES_OF_USE = ("transformers.md", "serve.md", "export.md", "other-tools.md")
# A conversion, or an example in Python, in the order of the pages.
RUNNABLE = re.compile(
    r"^scratch-gpt ((?:export|import) runs/demo/[^\n]*)$|^```python\n(.*?)^```", re.MULTILINE | re.DOTALL
)
# A server must run first, or a file be converted by another program: test_api_server.py and test_gguf.py do.
NEED_MORE = {"openai", "ctranslate2", "llama_cpp"}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# What is typed, up to the end of the line or of the inline code.
LAUNCHED = re.compile(
    r"(?:accelerate launch|python) [^\n`]*?(train|eval(?:/engineering)?)/(\w+)\.py([^\n`]*)"
)
COMMAND = re.compile(r"(?:^|[/`\s])scratch-gpt ([\w-]+)([^\n`]*)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--(\w+)")
# Behind the commands of the how-tos, so that they are quick.
TINY = {
    "tokenizer": "--vocab_size 512",
    "shards": "--validation_fraction 0.1",
    "pretrain": "--max_steps 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --num_threads 1 "
    "--mixed_precision no --max_eval_blocks 2",
    "sft": "--max_steps 2 --use_cpu true --held_out_fraction 0.2",
    "qa": "--max_new_tokens 4",
    "contamination": "",
}

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def read(page: Path) -> str:
    """The text of a page, each command on one line."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def class_of(command: str) -> Any:
    """The settings of `scratch-gpt COMMAND`, or None where the command itself declares its options."""
    if command == "plan":
        return PlanArguments
    script = {**cli.STAGES, **cli.BENCHMARKS}.get(command)
    return key_pages.settings_of(script[0]) if script else None


def fields_of(arguments_class: Any) -> set[str]:
    """The keys that a stage with these settings takes."""
    return {field.name for field in dataclasses.fields(arguments_class)} | {"config"}


def fences(page: Path, language: str) -> list[str]:
    """The blocks of a language, without their fences."""
    return [block for found, block in FENCE.findall(read(page)) if found == language]


def commands_of(page: Path) -> Iterator[str]:
    """What a block without a language shows: one command a line; behind "$ " where it shows the answers too."""
    for block in fences(page, ""):
        lines = [line for line in block.splitlines() if line.strip()]
        yield from [line[2:] for line in lines if line.startswith("$ ")] or lines


def program_of(command: str) -> tuple[str, list[str]]:
    """The last program of a pipe, and its words."""
    words = shlex.split(command.split(" | ")[-1], comments=True)
    words[0] = words[0].removeprefix(".venv/bin/")
    return ("python -m" if words[:2] == ["python", "-m"] else words[0]), words[1:]


def parse_command(program: str, words: list[str]) -> None:
    """Parse as the program would: options, the YAML that is named, the keys in it."""
    if program == "scratch-gpt":
        command, arguments_class = COMMANDS[words[0]], class_of(words[0])
        rest = command.make_context(words[0], words[1:]).args
    else:
        if program == "accelerate":
            launch_command_parser().parse_args(words[1:])
        place = next(place for place, word in enumerate(words) if SCRIPT.fullmatch(word))
        rest, arguments_class = words[place + 1 :], key_pages.settings_of(words[place])
    if arguments_class is not None:
        parse(arguments_class, rest)


def options_of(command: str) -> set[str]:
    """The options that `scratch-gpt COMMAND` takes."""
    declared = {option.removeprefix("--") for known in COMMANDS[command].params for option in known.opts}
    return declared | (fields_of(class_of(command)) if class_of(command) else set())


def test_there_is_a_page_for_each_stage_in_the_index() -> None:
    """Every page of docs/ is linked from its index."""
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")} - {"README.md"}
    assert pages
    assert pages == set(LINK.findall(index))


@page_by_page
def test_named_files_exist(page: Path) -> None:
    """Each path in train/ and eval/ that a page names is there; a pattern matches something."""
    named = {name.rstrip("/") for name in REPOSITORY_FILE.findall(read(page))}
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


@page_by_page
def test_no_command_needs_single_quotes(page: Path) -> None:
    """Windows' shells know none around JSON, YAML or a package's extra; beside the pages, the recipes' docstrings."""
    texts = [FENCE.sub(lambda match: "" if match[1] else match[2], read(page))]
    if page.name == "README.md":
        texts += [read(file) for folder in ("train", "eval") for file in (ROOT / folder).rglob("*.py")]
    quoted = re.compile(r"(?:--\w+|-d|install) '[^']*[\[{][^']*'")
    assert [found for text in texts for found in quoted.findall(text)] == []


@page_by_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of this repository, or to a heading in it, is no dead end."""
    text = FENCE.sub("", read(page))
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []
    lost = []
    for link, anchor in ANCHOR.findall(text):
        headings = HEADING.findall(FENCE.sub("", read(page.parent / link if link else page)))
        # as GitHub makes them: lower case, hyphens for blanks, no punctuation
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        lost += [f"{link}#{anchor}"] * (anchor not in anchors)
    assert lost == []


@functools.cache
def lines_of_codes() -> dict[str, list[str]]:
    """Code of a user's mistake -> the lines it may come with, as patterns with any value in its places."""
    found: dict[str, list[str]] = {}
    for folder in ("scratch_gpt", "train", "eval"):
        for file in (ROOT / folder).rglob("*.py"):
            for code, line in error_pages.errors_of(file):
                found.setdefault(code, []).append(re.escape(line).replace("\u2026", ".*"))
    return found


@page_by_page
def test_mistakes_are_those_of_the_code(page: Path) -> None:
    """A row of a table of mistakes ends with a code, and its line is one of that code, but for what stands around it."""
    for row in re.findall(r"^\|.*`error: .*", read(page).replace("\\|", "|"), re.MULTILINE):
        shown = re.search(r"(`+)error: (.*)\1.* <!-- (\w+) --> \|$", row)
        assert shown, f"{page.name}: no <!-- code --> of the error at the end of this row: {row}"
        line, code = shown[2], shown[3]
        assert code in lines_of_codes(), f"{page.name} has a row of the code {code}, which is gone"
        fits = any(re.fullmatch(f"(.*: )?{pattern}.*", line) for pattern in lines_of_codes()[code])
        assert fits, (
            f"{page.name}: the line of {code} is now {' or '.join(lines_of_codes()[code])}, not: {line}"
        )


@page_by_page
def test_shown_options_are_fields(page: Path) -> None:
    """Each --key of a shown command is a key of that stage, or an option of that command."""
    text = read(page)
    unknown = [
        f"{folder}/{name}.py --{option}"
        for folder, name, rest in LAUNCHED.findall(text)
        for option in set(OPTION.findall(rest)) - fields_of(key_pages.settings_of(f"{folder}/{name}.py"))
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
    """Conversions and Python examples of `PAGES_OF_USE` run in this order, where the packages they import are installed."""
    shutil.copytree(chat_folder, tmp_path / "runs" / "demo" / "aligned")
    monkeypatch.chdir(tmp_path)
    ran = []
    text = "\n".join(read(ROOT / "docs" / "how-to" / name) for name in PAGES_OF_USE)
    for command, example in RUNNABLE.findall(text):
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
    shown = commands_of(ROOT / "docs" / "how-to" / "chat.md")
    commands = [line for line in shown if "| scratch-gpt chat" in line or "--space" in line]
    assert len(commands) == 4
    if importlib.util.find_spec("gradio") is None:
        commands = [line for line in commands if "--space" not in line]
    for command in commands:
        script = f'scratch-gpt() {{ "{sys.executable}" -m scratch_gpt.cli "$@"; }}; {command}'
        ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, ""), command
        assert ran.stdout.strip()


def test_commands_of_the_page_are_those_there_are() -> None:
    """The table of commands names every command of `scratch-gpt`, and no other."""
    table = read(ROOT / "docs" / "reference" / "commands.md")
    named = [
        name
        for row in re.findall(r"^\|(.*?)\|", table, re.MULTILINE)
        for name in re.findall(r"`(\S+?)`", row)
    ]
    assert sorted(named) == sorted(COMMANDS)


@page_by_page
def test_what_is_taken_from_the_source_is_that_of_the_source(page: Path) -> None:
    """Excerpts of code and the tree of files are as `make refresh` writes them."""
    expected, text = (
        refresh.refreshed(page).splitlines(),
        page.read_text(encoding="utf-8").splitlines(),
    )
    assert (
        "\n".join(difflib.unified_diff(text, expected, "is", "make refresh writes", lineterm="", n=1)) == ""
    )


def test_an_excerpt_follows_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other lines between the first and the last, another file; where the first line is gone, it is named."""
    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    (tmp_path / "train").mkdir()
    source = tmp_path / "train" / "new.py"
    source.write_text('"""New."""\n\n\ndef f():\n    x = 1\n    y = 2\n    return x\n')
    page = tmp_path / "page.md"
    page.write_text("```python\n# train/old.py: in f\nx = 1\nreturn x\n```\n")
    assert refresh.refreshed(page) == "```python\n# train/new.py: in f\nx = 1\ny = 2\nreturn x\n```\n"
    page.write_text("```python\n# train/new.py: f\n```\n")
    assert refresh.refreshed(page).splitlines()[2:4] == ["def f():", "    x = 1"]
    page.write_text("```python\n# train/new.py: in f\nz = 1\nreturn x\n```\n")
    with pytest.raises(LookupError, match="z = 1"):
        refresh.refreshed(page)


def test_each_command_with_a_config_has_a_page_of_keys() -> None:
    """No page is left of a command that is gone."""
    pages = {page.stem for page in (ROOT / "docs" / "reference" / "keys").glob("*.md")}
    assert pages == {name for name in COMMANDS if class_of(name)}


@page_by_page
def test_typed_python_answers_as_printed(page: Path) -> None:
    """The lines after >>> of a page, typed one after the other, give what stands below them."""
    text = "\n".join(fences(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        doctest.DocTestRunner(verbose=False).run(test, out=report.write)
    assert report.getvalue() == ""


def test_chapters_have_exercises_whose_solutions_are_run() -> None:
    """Each chapter of the walk: copied code, and at least two exercises, each with a solution that is typed."""
    chapters = sorted((ROOT / "docs" / "learn").glob("[0-9][0-9]-*.md"))
    contents = LINK.findall(read(ROOT / "docs" / "learn" / "walk.md"))
    assert [link for link in contents if link[0].isdigit()] == [chapter.name for chapter in chapters]
    for chapter in chapters:
        text = read(chapter)
        solutions = re.findall(r"^<details.*?^</details>$", text, re.MULTILINE | re.DOTALL)
        assert len(solutions) >= 2, chapter.name
        assert all("```pycon\n>>> " in solution for solution in solutions), chapter.name
        assert QUOTED_FROM.search("\n".join(fences(chapter, "python"))), chapter.name
        assert ">>> " in text.partition("## Try it")[2].partition("## Exercises")[0], chapter.name


def test_figures_of_the_walk_are_drawn_by_their_script(tmp_path: Path) -> None:
    """The script writes every figure that a chapter shows, with the committed one's labels."""
    draw_figures.main(str(tmp_path))
    chapters = "\n".join(map(read, (ROOT / "docs" / "learn").glob("[0-9][0-9]-*.md")))
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert sorted(drawn) == sorted(re.findall(r"!\[.+?\]\(\.\./images/(.+?)\)", chapters))
    for name, svg in drawn.items():
        committed = (ROOT / "docs" / "images" / name).read_text(encoding="utf-8")
        assert re.findall(r"<text.*?>(.*?)</text>", svg) == re.findall(r"<text.*?>(.*?)</text>", committed)


def test_blocks_of_python_are_quoted_or_run() -> None:
    """Examples in Python stand in the pages whose examples are run below, and nowhere else."""
    examples = {
        page.name for page in PAGES for block in fences(page, "python") if not QUOTED_FROM.match(block)
    }
    assert examples == {"README.md", "result-files.md", *PAGES_OF_USE}
    assert sum(len(QUOTED_FROM.findall("\n".join(fences(page, "python")))) for page in PAGES) > 15


@page_by_page
def test_shown_commands_can_be_parsed(page: Path, monkeypatch) -> None:
    """Each command: its options, the YAML that it names and the keys in that, as the stage itself reads them."""
    monkeypatch.chdir(ROOT)
    # the benchmarks look at once whether there is a model
    monkeypatch.setattr("scratch_gpt.evaluation.harness.check_folder", lambda folder: None)
    for command in commands_of(page):
        program, words = program_of(command)
        if program not in NOT_PARSED:
            parse_command(program, words)


@page_by_page
def test_shown_yaml_has_known_keys(page: Path) -> None:
    """Sources and rewards in YAML are such."""
    for block in fences(page, "yaml"):
        declared = yaml.safe_load(block)
        keys = {key for source in declared.get("sources", []) for key in source}
        assert keys <= {*(field.name for field in dataclasses.fields(Source)), *LAYOUT_KEYS}
        if "rewards" in declared:
            check_rewards(declared["rewards"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_short_examples_of_python_run_as_printed(chat_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Those of the README and of the guide to measuring."""
    shutil.copytree(chat_folder, tmp_path / "runs" / "demo" / "aligned")
    (tmp_path / "scratch_gpt").symlink_to(ROOT / "scratch_gpt")
    monkeypatch.chdir(tmp_path)
    for page in ("README.md", "docs/reference/result-files.md"):
        (example,) = fences(ROOT / page, "python")
        Path("example.py").write_text(example, encoding="utf-8")
        runpy.run_path("example.py")


def run_command(command: str, words: list[str]) -> None:
    """`scratch-gpt` with these words, and small settings behind them."""
    if words[0] in TINY:
        script = {**cli.STAGES, **cli.BENCHMARKS}[words[0]][0]
        key_pages.load(script).main(
            parse(key_pages.settings_of(script), [*words[1:], *TINY[words[0]].split()])
        )
    else:
        result = CliRunner().invoke(cli.app, words, input="", catch_exceptions=False)
        assert result.exit_code == 0, f"{command}: {result.output}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_how_tos_run_as_printed(tmp_path: Path, monkeypatch) -> None:
    """In their order, on a small text and with small settings behind; left out is what needs a GPU, the Hub or a client."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    documents = itertools.islice(primer.documents(seed=0), 300)
    Path("data/book.txt").write_text("\n\n".join(["Жила-была кошка.", *documents]), encoding="utf-8")
    rows = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(30)]
    Path("data/mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("data/questions.jsonl").write_text(
        '{"question": "Which number comes after thirty when you count?", "answer": "It is 31."}\n' * 3
    )
    ran = []
    for command in commands_of(ROOT / "docs" / "how-to" / "README.md"):
        program, words = program_of(command)
        name = words[0]
        if (
            program != "scratch-gpt"
            or name in ("plan", "serve")
            or {"--accelerate_config", "--hub_private_repo", "train/configs/small/pretrain.yaml"} & {*words}
        ):
            continue
        run_command(command, words)
        ran.append(name)
    assert ran == [
        *("tokenizer", "shards", "pretrain", "chat", "sft", "qa", "contamination"),
        *("pretrain", "publish", "export", "export"),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_published_models_are_tuned_as_printed(tmp_path: Path, monkeypatch) -> None:
    """In a tiny folder of Qwen3's layout, all after the download: tuned, measured, asked, published; with a general text."""
    monkeypatch.chdir(tmp_path)
    write_stock_folder("qwen3", Path("qwen3-0.6b"))
    Path("data").mkdir()
    rows = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(30)]
    Path("data/mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("data/questions.jsonl").write_text('{"question": "What is 31?", "answer": "It is 31."}\n' * 3)
    Path("data/wiki.txt").write_text("The cat sat on the mat.\n\nIt said: hello.")
    ran = []
    pages = [ROOT / "docs" / page for page in ("start/tune-a-published-model.md", "how-to/tuning.md")]
    for command in itertools.chain(*map(commands_of, pages)):
        program, words = program_of(command)
        if program != "scratch-gpt" or not any("qwen3-0.6b" in word or "runs/mine" in word for word in words):
            continue
        run_command(command, words)
        ran.append(words[0])
    assert ran == ["sft", "qa", "chat", "publish", "sft"]
    assert "change/general_text/bits_per_byte" in Path("runs/mine/measured/results/sft.json").read_text()


def test_commands_are_found() -> None:
    """The patterns above see the commands that the pages show: those of every stage, of every benchmark, and others'."""
    programs = [program_of(command) for page in PAGES for command in commands_of(page)]
    assert {program for program, _ in programs} - NOT_PARSED == {
        "scratch-gpt",
        "accelerate",
        "torchrun",
        "python",
    }
    assert {program for program, _ in programs} >= NOT_PARSED
    texts = "\n".join(map(read, PAGES))
    files = [path for folder in ("train", "eval") for path in (ROOT / folder).rglob("*.py")]
    scripts = {path.stem for path in files if "run_stage(" in path.read_text(encoding="utf-8")}
    assert {name for _, name, _ in LAUNCHED.findall(texts)} == scripts
    assert {"pretrain", "chat", "web", "serve", "export", "import", "publish"} <= {
        command for command, _ in COMMAND.findall(texts)
    }
