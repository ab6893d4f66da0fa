# SPDX-License-Identifier: Apache-2.0
"""The pages keep up with the code: what they quote stands there, what they print comes out, what they show can be typed.

Of the commands in the pages, each is at least parsed as its stage would; `NOT_PARSED` names the programs of others, which
are not. Executed are, here: the typed Python of the walk and the primer, the Python examples, the how-tos, the pipes of the
chat page and the conversions; in test_encoders_page.py and test_upload.py (the guide to publishing) those pages, in
test_api_server.py the requests to the server.
"""

import ast
import contextlib
import dataclasses
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

import pytest
import typer.main
import yaml
from accelerate.commands.launch import launch_command_parser
from typer.testing import CliRunner

import scratch_gpt
from scratch_gpt import cli, primer
from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.data.sources.source import Source
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.planning import planning
from scratch_gpt.training.posttrain import arguments as posttraining_arguments
from scratch_gpt.training.posttrain import seq2seq
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.rl import arguments as rlhf_arguments
from scratch_gpt.training.rl.reward_functions import check_rewards


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STAGES = {
    "tokenizer": TokenizerArguments,
    "shards": ShardsArguments,
    "pretrain": PretrainArguments,
    "sft": posttraining_arguments.SFTArguments,
    "seq2seq": seq2seq.Seq2SeqArguments,
    "reward": posttraining_arguments.RewardArguments,
    "dpo": posttraining_arguments.DPOArguments,
    "rlhf": rlhf_arguments.RLHFArguments,
}
COMMANDS = typer.main.get_command(cli.app).commands
# Programs of others in the pages; what they are given is not looked at.
NOT_PARSED = {
    *("git", "make", "pip", "sbatch", "hf", "curl"),
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
QUOTED_FROM = re.compile(r"# ((?:scratch_gpt|train|eval)/\S+\.py)\n")
# A file of train/ or eval/, or a pattern of such files; the ellipsis of a sentence is no part of it.
REPOSITORY_FILE = re.compile(r"(?<![\w./-])(?:train|eval)/[\w*./-]*[\w*]")
SCRIPT = re.compile(r"(?:train|eval)/\w+\.py")
# A conversion, or an example in Python, in the order of the page.
RUNNABLE = re.compile(
    r"^scratch-gpt ((?:export|import) runs/demo/[^\n]*)$|^```python\n(.*?)^```", re.MULTILINE | re.DOTALL
)
# A server must run first, or a file be converted by another program: test_api_server.py and test_gguf_export.py do.
NEED_MORE = {"openai", "ctranslate2", "llama_cpp"}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# What is typed, up to the end of the line or of the inline code.
LAUNCHED = re.compile(r"(?:accelerate launch|python) [^\n`]*?(train|eval)/(\w+)\.py([^\n`]*)")
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


@functools.cache
def arguments_of(script: str) -> Any:
    """The settings of `script` ("train/sft.py", "eval/qa.py"): what its last line hands to `run_stage`."""
    path = ROOT / script
    if path.parent.name == "train":
        return STAGES[path.stem]
    (name,) = re.findall(r"run_stage\(main, (\w+)\)", path.read_text(encoding="utf-8"))
    return getattr(load(script), name)


@functools.cache
def load(script: str) -> Any:
    """The module of a file of train/ or eval/."""
    path = ROOT / script
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def class_of(command: str) -> Any:
    """The settings of `scratch-gpt COMMAND`, or None where the command itself declares its options."""
    if command == "plan":
        return planning.PlanArguments
    script = {**cli.STAGES, **cli.BENCHMARKS}.get(command)
    return arguments_of(script[0]) if script else None


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
        rest, arguments_class = words[place + 1 :], arguments_of(words[place])
    if arguments_class is not None:
        parse(arguments_class, rest)


def options_of(command: str) -> set[str]:
    """The options that `scratch-gpt COMMAND` takes."""
    declared = {option.removeprefix("--") for known in COMMANDS[command].params for option in known.opts}
    return declared | (fields_of(class_of(command)) if class_of(command) else set())


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
def messages() -> dict[str, str]:
    """Pattern of each text in the code, with any value in its places -> its longest part, of ten letters or more."""
    found = {}
    for file in (
        file for folder in ("scratch_gpt", "train", "eval") for file in (ROOT / folder).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(part.value) if isinstance(part, ast.Constant) else "" for part in parts]
            longest = max(texts, key=len, default="")
            if len(longest) >= 10:
                found["".join(re.escape(text) or ".*" for text in texts)] = longest
    return found


@page_by_page
def test_mistakes_are_told_in_the_words_of_the_code(page: Path) -> None:
    """Each line of a table of mistakes fits a message, but for a place before it and what is told besides behind it."""
    unknown = [
        line
        for line in re.findall(r"`error: (.*)` \|$", read(page).replace("\\|", "|"), re.MULTILINE)
        if not any(
            part in line and re.fullmatch(f"(.*: )?{text}.*", line) for text, part in messages().items()
        )
    ]
    assert unknown == []


@page_by_page
def test_shown_options_are_fields(page: Path) -> None:
    """Each --key of a shown command is a key of that stage, or an option of that command."""
    text = read(page)
    unknown = [
        f"{folder}/{name}.py --{option}"
        for folder, name, rest in LAUNCHED.findall(text)
        for option in set(OPTION.findall(rest)) - fields_of(arguments_of(f"{folder}/{name}.py"))
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
    shown = commands_of(ROOT / "docs" / "chat.md")
    commands = [line for line in shown if "| scratch-gpt chat" in line or "--space" in line]
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
    block = read(ROOT / "README.md").split("## The tree\n\n```text\n")[1].split("```")[0]
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
    assert sorted(named) == sorted(COMMANDS)


@page_by_page
def test_quoted_code_is_that_of_the_file(page: Path) -> None:
    """A block of Python that begins with the name of a file stands in that file, but for blanks."""
    for block in fences(page, "python"):
        if not (named := QUOTED_FROM.match(block)):
            continue
        quoted, code = block[named.end() :], (ROOT / named[1]).read_text(encoding="utf-8")
        # without blanks: further left, a formatter breaks lines elsewhere
        found = "".join(quoted.split()) in "".join(code.split())
        assert found, f"{page.name} quotes what no longer stands in {named[1]}: {quoted.splitlines()[0]}"


def test_reference_names_what_is_public() -> None:
    """The page has a row for every public name, and each module in it is there, with what it is named for."""
    rows = re.findall(r"^\| `(\S+)` \|(.*)", read(ROOT / "docs" / "reference.md"), re.MULTILINE)
    modules = {name: text for name, text in rows if name.startswith("scratch_gpt")}
    assert sorted({name for name, _ in rows} - set(modules)) == scratch_gpt.__all__
    for name, text in modules.items():
        module = importlib.import_module(name)
        assert [word for word in re.findall(r"`(\w+)`", text) if not hasattr(module, word)] == []


def make_docs(folder: Path, modules: str = "") -> str:
    """Run `make docs` in this environment, into `folder`; what it says."""
    pytest.importorskip("pdoc", reason="needs the packages of scratch-gpt[docs]")
    if shutil.which("make") is None:
        pytest.skip("needs make")
    command = ["make", "--old-file", ".venv/.installed", "docs"]
    settings = [f"BIN={Path(sys.executable).parent}", f"REFERENCE={folder}"]
    settings += [f"MODULES={modules}"] if modules else []
    ran = subprocess.run([*command, *settings], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def test_reference_is_made_from_docstrings(tmp_path: Path) -> None:
    """`make docs` warns of nothing, and describes every public name."""
    assert make_docs(tmp_path, "scratch_gpt scratch_gpt.errors") == ""
    page = (tmp_path / "scratch_gpt.html").read_text(encoding="utf-8")
    assert [name for name in scratch_gpt.__all__ if f'id="{name}"' not in page] == []
    assert "A mistake of the user" in (tmp_path / "scratch_gpt" / "errors.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_reference_has_a_page_for_each_module(tmp_path: Path) -> None:
    """All of them, without a warning."""
    assert make_docs(tmp_path) == ""
    files = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "scratch_gpt").rglob("*.py")}
    modules = {path.parent if path.name == "__init__" else path for path in files}
    pages = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    assert pages == modules | {Path("index")}


@page_by_page
def test_typed_python_answers_as_printed(page: Path) -> None:
    """The lines after >>> of a page, typed one after the other, give what stands below them."""
    text = "\n".join(fences(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        doctest.DocTestRunner(verbose=False).run(test, out=report.write)
    assert report.getvalue() == ""


def test_blocks_of_python_are_quoted_or_run() -> None:
    """Examples in Python stand in the pages whose examples are run below, and nowhere else."""
    examples = {
        page.name for page in PAGES for block in fences(page, "python") if not QUOTED_FROM.match(block)
    }
    assert examples == {"README.md", "measuring.md", "use-anywhere.md"}
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
        assert keys <= {field.name for field in dataclasses.fields(Source)}
        if "rewards" in declared:
            check_rewards(declared["rewards"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_short_examples_of_python_run_as_printed(chat_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Those of the README and of the guide to measuring."""
    shutil.copytree(chat_folder, tmp_path / "runs" / "demo" / "aligned")
    (tmp_path / "scratch_gpt").symlink_to(ROOT / "scratch_gpt")
    monkeypatch.chdir(tmp_path)
    for page in ("README.md", "docs/measuring.md"):
        (example,) = fences(ROOT / page, "python")
        Path("example.py").write_text(example, encoding="utf-8")
        runpy.run_path("example.py")


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
    for command in commands_of(ROOT / "docs" / "how-to.md"):
        program, words = program_of(command)
        name = words[0]
        if (
            program != "scratch-gpt"
            or name in ("plan", "serve")
            or {"--accelerate_config", "--private"} & {*words}
        ):
            continue
        if name in TINY:
            script = {**cli.STAGES, **cli.BENCHMARKS}[name][0]
            load(script).main(parse(arguments_of(script), [*words[1:], *TINY[name].split()]))
        else:
            result = CliRunner().invoke(cli.app, words, input="", catch_exceptions=False)
            assert result.exit_code == 0, f"{command}: {result.output}"
        ran.append(name)
    assert ran == [
        *("tokenizer", "shards", "pretrain", "chat", "sft", "qa", "contamination"),
        *("pretrain", "publish", "export", "export"),
    ]


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
    scripts = {path.stem for folder in ("train", "eval") for path in (ROOT / folder).glob("*.py")}
    assert {name for _, name, _ in LAUNCHED.findall(texts)} == scripts
    assert {"pretrain", "chat", "web", "serve", "export", "import", "publish"} <= {
        command for command, _ in COMMAND.findall(texts)
    }
