# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt chat`: what is typed, what is printed, where."""

import io
import json
import os
import re
import select
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.terminal import Terminal, printable
from wording import shows, user_error


@pytest.fixture
def typed(chat_folder: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """`typed(text)`: exit status, output and errors of a chat with this on standard input, greedy by default."""

    def run(text: str, folder: Path = chat_folder, **settings) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        settings = {"temperature": 0.0, "max_new_tokens": 8, **settings}
        status = Terminal(StreamingModel.load(str(folder)), **settings).run()
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def echoing(monkeypatch) -> None:
    """Models that answer in angle brackets."""

    def stream(self, token_ids, sampling):
        self.num_said = 1
        text = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        yield f"<{text.strip().removesuffix('assistant').split('user')[-1].strip()}>"

    monkeypatch.setattr(StreamingModel, "stream", stream)


def test_control_characters_are_spelled_out() -> None:
    """Escape sequences of the model's never reach the terminal; newlines, umlauts and markup stay as they are."""
    assert printable("a\x1b[2Jb\x9b\r\n\tä [bold]x[/bold]") == "a\\x1b[2Jb\\x9b\\x0d\n\tä [bold]x[/bold]"


def test_piped_input_prints_the_answers_alone(typed, echoing) -> None:
    """One answer a line for one message a line; /exit ends, blank lines are skipped, a path is a message."""
    status, output, errors = typed("one\n\n/usr/bin\n/reset\ntwo\n/exit\nthree\n")
    assert (status, output, errors) == (0, "<one>\n</usr/bin>\n<two>\n", "")


class Keyboard(io.StringIO):
    """Standard input that a person types at."""

    def isatty(self) -> bool:
        return True


def test_things_to_ask_are_shown_to_people(
    chat_folder: Path, typed, echoing, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Above the first message, what the folder's results say was answered right; a pipe prints the answers alone."""
    results = chat_folder / "results"
    results.mkdir(exist_ok=True)
    answered = {"facts": ["Where is Peru?", "Who?"], "sums": ["What is 1 + 2?"]}
    (results / "qa.json").write_text(json.dumps({"metrics": {}, "answered": answered}))
    assert "Peru" not in typed("Hi\n")[1]
    monkeypatch.setattr("sys.stdin", Keyboard())
    assert Terminal(StreamingModel.load(str(chat_folder))).run() == 0
    shown = capsys.readouterr().out
    assert shows(shown, "Things to ask", "benchmarks", "Where is Peru? | What is 1 + 2?")
    assert "Who?" not in shown


def test_mistakes_in_a_pipe_are_lines_on_stderr_and_status_2(typed, echoing) -> None:
    """What is right is answered all the same."""
    status, output, errors = typed(
        "/foo\n" + "word " * 500 + "\n/save\n/set top_k x\n/set top 1\n/set top_p 2\nHi\n"
    )
    assert (status, output) == (2, "<Hi>\n")
    shown = ("/foo", "tokens", "file", ["top_k", "'x'"], "'top'", ["top_p", 2])
    assert all(shows(line, "error: ", each) for line, each in zip(errors.splitlines(), shown, strict=True))


@pytest.mark.parametrize("command", ["/save", "/load"])
def test_a_file_must_be_named(command: str, chat_folder: Path) -> None:
    """The line shows how."""
    terminal = Terminal(StreamingModel.load(str(chat_folder)))
    with user_error("file_name_missing", f"{command} talk.jsonl"):
        terminal.commands[command]("")


def test_forgotten_turns_are_announced(typed) -> None:
    """A line says how many messages the model no longer reads."""
    _, _, errors = typed("".join(f"question number {number}\n" for number in range(10)))
    lines = errors.splitlines()
    assert lines
    assert shows(lines[0], "2 messages", "128 tokens")


def test_two_models_answer(typed, chat_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Each behind its name and with its own history, from the conversation so far on; then one again."""

    def questions(self, token_ids, sampling):
        yield f"{self.tokenizer.decode(token_ids).count('<|im_start|>user')} {self.name}"

    monkeypatch.setattr(StreamingModel, "stream", questions)
    other = tmp_path / "other"
    shutil.copytree(chat_folder, other)
    status, output, errors = typed(
        f"Hi\n/compare {other}\nAnd?\n/compare {chat_folder}\nOh\n/compare\nWhy?\n"
    )
    assert (status, errors) == (0, "")
    assert output.splitlines() == [
        "1 chat",
        "chat> 2 chat",
        "other> 2 other",
        "chat> 3 chat",
        f"{chat_folder}> 3 {chat_folder}",
        "4 chat",
    ]


def test_a_comparison_that_fails_changes_nothing(base_folder: Path, typed, echoing, tmp_path: Path) -> None:
    """No such folder, or a base model: one line, and the models before go on."""
    status, output, errors = typed(f"/compare {tmp_path / 'nowhere'}\n/compare {base_folder}\nHi\n")
    assert (status, output) == (2, "<Hi>\n")
    assert shows(errors.splitlines()[0], tmp_path / "nowhere")
    assert shows(errors.splitlines()[1], "base model")


def test_save_and_load(typed, echoing, tmp_path: Path) -> None:
    """A conversation that was saved goes on where it was."""
    file = tmp_path / "talk.jsonl"
    assert typed(f"one\n/save {file}\n", system="Be kind.")[0] == 0
    assert typed(f"/load {file}\ntwo\n/save {file}\n")[0] == 0
    messages = json.loads(file.read_text())["messages"]
    assert [message["content"] for message in messages] == ["Be kind.", "one", "<one>", "two", "<two>"]


def test_settings_are_shown_and_changed(typed) -> None:
    """/set changes what the next answer is drawn with; /speed tells how fast the last was; /help names all."""
    _, output, _ = typed("/set max_new_tokens 3\nHi\n/speed\n/help\n")
    settings, *_ = output.splitlines()
    assert shows(settings, "chat", "temperature 0.0", "top_p 1.0", "top_k 50", "max_new_tokens 3")
    assert shows(output, " 3 tokens ")
    for command in ("/help", "/reset", "/save", "/load", "/compare", "/set", "/speed", "/exit"):
        assert f"  {command}" in output


def test_a_base_model_completes(base_folder: Path, typed) -> None:
    """A line is continued by itself, blanks at its end kept; a conversation is refused, a system message too."""
    with user_error("base_model", model="base"):
        typed("Hi\n", base_folder)
    with user_error("settings_conflict", setting="system", other="complete"):
        typed("Hi\n", base_folder, complete=True, system="Be kind.")
    status, output, errors = typed("Once upon \n/save x\n/load x\n", base_folder, complete=True)
    speaker = StreamingModel.load(str(base_folder))
    terminal = Terminal(speaker, complete=True, temperature=0.0, max_new_tokens=8)
    assert output == printable("".join(speaker.complete("Once upon ", terminal.sampling))) + "\n"
    assert (status, errors.count("\n")) == (2, 2)
    for command in ("/save", "/load"):
        with user_error("no_conversation", "--complete"):
            terminal.commands[command]("x")


def test_interrupted_answer_is_kept_and_the_chat_goes_on(typed, monkeypatch, tmp_path: Path) -> None:
    """Ctrl-C ends the answer, not the program: what was said is remembered and the next question is answered."""
    stream = StreamingModel.stream
    answers = iter([True, False])

    def interrupted(self, token_ids, sampling):
        if next(answers):
            yield "so far"
            raise KeyboardInterrupt
        yield from stream(self, token_ids, sampling)

    monkeypatch.setattr(StreamingModel, "stream", interrupted)
    file = tmp_path / "talk.jsonl"
    status, output, _ = typed(f"Hello\nAnd?\n/save {file}\n")
    assert status == 0
    assert output.startswith("so far ...\n")
    messages = json.loads(file.read_text())["messages"]
    assert [message["content"] for message in messages[:3]] == ["Hello", "so far", "And?"]
    assert len(messages) == 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal")
def test_in_a_real_terminal_text_comes_while_it_is_written_and_ctrl_c_stops_the_answer(
    tiny_tokenizer, tmp_path: Path
) -> None:
    """A model of the demo's shape: text before the answer ends; Ctrl-C ends the answer alone; /exit ends with 0."""
    import pty  # not on Windows

    torch.manual_seed(0)
    config = ScratchGPTConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=3,
        max_position_embeddings=4096,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    ScratchGPTForCausalLM(config).save_pretrained(tmp_path / "chat")
    tiny_tokenizer.eos_token = "<|im_end|>"
    tiny_tokenizer.save_pretrained(tmp_path / "chat")
    process, terminal = pty.fork()
    if process == 0:
        settings = ["--seed", "0", "--max_new_tokens", "2000"]
        os.execv(
            sys.executable,
            [sys.executable, "-m", "scratch_gpt.cli", "chat", str(tmp_path / "chat"), *settings],
        )

    def shown_until(pattern: str) -> str:
        shown = ""
        while not re.search(pattern, shown, re.DOTALL):
            assert select.select([terminal], [], [], 60)[0], shown
            shown += os.read(terminal, 4096).decode(errors="replace")
        return shown

    shown_until("you> ")
    os.write(terminal, b"Hello\n")
    shown_until("chat> .")
    os.write(terminal, b"\x03")  # the terminal makes SIGINT of it
    assert " ..." in shown_until(r"\.\.\..*you> ")
    os.write(terminal, b"/speed\n")
    speed = shown_until(r"tokens/s.*you> ")
    os.write(terminal, b"/set max_new_tokens 5\nAnd?\n/exit\n")
    shown_until("chat> .")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)
    assert int(re.search(r"(\d+) tokens in", speed)[1]) < 2000
