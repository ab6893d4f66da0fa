# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a tiny tokenizer, a tiny model, a chat folder; all made here, no network."""

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import psutil
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTEncoderDecoderConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForConditionalGeneration,
    primer,
)
from scratch_gpt.tokenization import IM_END, save_tokenizer, train_tokenizer


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors are faster on one thread, and other processes are left alone."""
    torch.set_num_threads(1)


@pytest.fixture
def windows_files(monkeypatch) -> None:
    """Files as on Windows: what this process has open or mapped is not renamed or removed; only what may be written is synced."""
    if not Path("/proc/self/maps").is_file():
        pytest.skip("needs /proc")
    import fcntl

    fsync = os.fsync

    def in_use(path: Any, folder: int | None) -> None:
        where = Path(os.readlink(f"/proc/self/fd/{folder}")) / path if folder else Path(path).absolute()
        used = {entry.path for entry in psutil.Process().open_files()}
        used |= {line.split(None, 5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
        if busy := [name for name in used if where in (Path(name), *Path(name).parents)]:
            raise PermissionError(errno.EACCES, f"open or mapped: {busy}", str(path))

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *others: Any, dir_fd: int | None = None, **options: Any) -> Any:
            in_use(path, dir_fd)
            return function(path, *others, **({"dir_fd": dir_fd} if dir_fd else {}), **options)

        return call

    def sync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        fsync(descriptor)

    for name in ("rename", "replace", "unlink", "remove"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr("scratch_gpt.runs.folders.fcntl", None)


@pytest.fixture(scope="session")
def trained_tokenizer() -> PreTrainedTokenizerFast:
    """512 tokens learned from 300 documents of the primer; never changed."""
    return train_tokenizer(itertools.islice(primer.documents(seed=0), 300), vocab_size=512)


@pytest.fixture
def tiny_tokenizer(trained_tokenizer: PreTrainedTokenizerFast, tmp_path_factory) -> PreTrainedTokenizerFast:
    """A copy of the tiny tokenizer that a test may change."""
    folder = tmp_path_factory.mktemp("tokenizer")
    trained_tokenizer.save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.fixture
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> ScratchGPTForCausalLM:
    """Two layers, 64 wide, seeded, in evaluation mode; fits the tiny tokenizer."""
    torch.manual_seed(0)
    config = ScratchGPTConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=tiny_tokenizer.pad_token_id,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
    )
    return ScratchGPTForCausalLM(config).eval()


@pytest.fixture
def base_folder(
    tiny_model: ScratchGPTForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    """The tiny model as the pretraining stage would save it."""
    tiny_model.save_pretrained(tmp_path / "base")
    save_tokenizer(tiny_tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def chat_folder(
    tiny_model: ScratchGPTForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    """The tiny model as the instruction tuning stage would save it: its answers end with <|im_end|>."""
    stops = [tiny_tokenizer.convert_tokens_to_ids(IM_END), tiny_tokenizer.eos_token_id]
    tiny_tokenizer.eos_token = IM_END
    tiny_model.generation_config.eos_token_id = stops
    tiny_model.save_pretrained(tmp_path / "chat")
    save_tokenizer(tiny_tokenizer, tmp_path / "chat")
    return tmp_path / "chat"


@pytest.fixture
def encoder_decoder_folder(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A tiny encoder-decoder as the pretraining stage would save it with objective span."""
    torch.manual_seed(0)
    config = ScratchGPTEncoderDecoderConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        attention_dropout=0.1,
        pad_token_id=tiny_tokenizer.pad_token_id,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        decoder_start_token_id=tiny_tokenizer.pad_token_id,
    )
    ScratchGPTForConditionalGeneration(config).save_pretrained(tmp_path / "encoder_decoder")
    save_tokenizer(tiny_tokenizer, tmp_path / "encoder_decoder")
    return tmp_path / "encoder_decoder"


@pytest.fixture(scope="session")
def small_model() -> Callable[..., PreTrainedModel]:
    """`small_model(head_class, **config)`: two layers, seeded, in evaluation mode.

    The weights are larger than initial ones, and no norm or bias is at its initial one or zero: a mistake shows.
    """

    def build(head: type[PreTrainedModel] = ScratchGPTForCausalLM, **changes) -> PreTrainedModel:
        config = {
            "vocab_size": 99,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "pad_token_id": 0,
            "initializer_range": 0.1,
        }
        torch.manual_seed(0)
        model = head(ScratchGPTConfig(**{**config, **changes})).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return build


@pytest.fixture(params=["qwen3", "llama", "gpt2"])
def dialect_model(request, small_model) -> PreTrainedModel:
    """A small causal language model of each dialect, with grouped keys and values where the design has them."""
    grouped = {} if request.param == "gpt2" else {"num_key_value_heads": 2}
    return small_model(dialect=request.param, **grouped)


@pytest.fixture
def some_ids() -> Callable[..., torch.Tensor]:
    """`some_ids(batch, length)`: seeded ids below 99, none of them the padding 0."""
    return lambda batch=2, length=13: torch.randint(
        1, 99, (batch, length), generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Any]:
    """Headless Chromium, driven by selenium, that reaches this machine only; skipped where one is not installed."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium: pip install 'scratch-gpt[test]'"
    )
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
        "--window-size=1200,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
