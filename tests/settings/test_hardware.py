# SPDX-License-Identifier: Apache-2.0
"""The choice of threads and precision, and how long waiting threads spin, and the memory that is kept."""

import ast
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scratch_gpt.settings import hardware
from scratch_gpt.settings.hardware import available_cpus, best_precision, choose_threads, gpu_precision


ROOT = Path(__file__).parents[2]
SCRIPTS = [path for folder in ("train", "eval") for path in sorted((ROOT / folder).rglob("*.py"))]
RECIPES = [path for path in SCRIPTS if "__main__" in path.read_text(encoding="utf-8")]
LAUNCHERS = {
    "accelerate": ["-m", "accelerate.commands.launch", "--num_processes", "1"],
    "torchrun": ["-m", "torch.distributed.run", "--nproc_per_node", "2"],
    "scratch-gpt": [
        "-c",
        "import sys; from pathlib import Path; from scratch_gpt import launching; path = Path(sys.argv[1])\n"
        "launching.scripts_folder = lambda: path.parent\nsys.exit(launching.launch(path.name, []))",
    ],
    "preloaded": [
        "-c",
        "import sys; from pathlib import Path; from scratch_gpt import launching; path = Path(sys.argv[1])\n"
        "launching.scripts_folder = lambda: path.parent\nlaunching.PRELOADED = ('scratch_gpt.launching',)\n"
        "sys.exit(launching.launch_preloaded(path.name, []))",
    ],
}


@pytest.fixture
def processors(monkeypatch):
    """A CPU with eight processors, and an environment that says nothing."""
    monkeypatch.setattr(hardware, "available_cpus", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "num_threads", "chosen"),
    [
        ({}, None, 8),
        ({"LOCAL_WORLD_SIZE": "2"}, None, 4),
        ({"LOCAL_WORLD_SIZE": "64"}, None, 1),
        ({"OMP_NUM_THREADS": "1"}, None, 1),
        ({"OMP_NUM_THREADS": "3,2"}, None, 3),
        ({"OMP_NUM_THREADS": "many"}, None, 8),
        ({"OMP_NUM_THREADS": "3", "TORCHELASTIC_RUN_ID": "x"}, None, 3),
        ({"OMP_NUM_THREADS": "3"}, 5, 5),
    ],
)
def test_threads_are_asked_for_or_all(processors, monkeypatch, environment, num_threads, chosen) -> None:
    """The argument, then OMP_NUM_THREADS, then a share of the processors for each process of the launch."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose_threads(num_threads) == chosen


@pytest.mark.parametrize("name", ["ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"])
@pytest.mark.parametrize(("asked", "chosen"), [({}, 8), ({"OMP_NUM_THREADS": "1"}, 1)])
def test_one_thread_by_a_launchers_default_is_not_the_users_word(
    processors, monkeypatch, name, asked, chosen
) -> None:
    """It counts where the launcher was started with it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(name, "x")
    monkeypatch.setattr(hardware, "launcher_environment", lambda: asked)
    assert choose_threads(None) == chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "asked"), [*((launcher, None) for launcher in LAUNCHERS), ("accelerate", "1")]
)
def test_every_launcher_passes_on_what_the_user_said(tmp_path, launcher, asked) -> None:
    """The real launchers: OMP_NUM_THREADS, or all processors (a share of them) where the user set nothing."""
    script = tmp_path / "stage.py"
    script.write_text(
        "import os, scratch_gpt\nfrom scratch_gpt.settings.hardware import choose_threads\n"
        "open(f'{__file__}.{os.getpid()}', 'w').write(f\"{choose_threads(None)} {os.environ['GOMP_SPINCOUNT']}\")"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "LOCAL_WORLD_SIZE")
    }
    environment |= {"HF_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    if asked:
        environment["OMP_NUM_THREADS"] = asked
    command = [sys.executable, *LAUNCHERS[launcher], str(script)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    processes = 2 if launcher == "torchrun" else 1
    threads = asked or max(1, available_cpus() // processes)
    assert [path.read_text() for path in tmp_path.glob("stage.py.*")] == [f"{threads} 2000"] * processes


def test_every_recipe_sets_the_spinning_before_it_loads_torch() -> None:
    """The first import of each file, and of the package, which all other programs load."""
    assert len(RECIPES) > 15
    for path in [*RECIPES, ROOT / "scratch_gpt" / "__init__.py"]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        first = next(node for node in body if isinstance(node, ast.Import | ast.ImportFrom))
        assert ast.unparse(first) == "import scratch_gpt.native_libraries", path
    code = "import sys, scratch_gpt; names = list(sys.modules); print(names.index('scratch_gpt.native_libraries') < names.index('torch'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("value", [None, "7"])
def test_the_users_spinning_is_kept(value) -> None:
    """Both runtimes' variables, in a process of its own."""
    names = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {key: text for key, text in os.environ.items() if key not in names}
    environment |= dict.fromkeys(names, value) if value else {}
    file = str(ROOT / "scratch_gpt" / "native_libraries.py")
    code = f"import os, runpy; runpy.run_path({file!r}); print([os.environ[name] for name in {names}])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([value] * 2 if value else ["2000", "1"])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
@pytest.mark.parametrize("setting", [None, "MALLOC_TRIM_THRESHOLD_"])
def test_freed_memory_is_kept_for_the_next_step(setting) -> None:
    """Pages fault in once, in a process of its own; a user's setting of malloc is kept."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith("MALLOC_")}
    environment |= {setting: "131072"} if setting else {}
    code = """
import scratch_gpt, resource, torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(4 << 20) for _ in range(4)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(4)][-1] / (64 << 20) * resource.getpagesize())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    share = float(done.stdout)  # of the pages
    assert share > 0.5 if setting else share < 0.01


def test_a_cpu_gets_bfloat16_where_it_multiplies_it(processors, monkeypatch) -> None:
    """Known from its capabilities; versions of torch that cannot tell count as float32."""
    for capabilities, precision in (({"avx512_bf16": True}, "bf16"), ({"avx512_f": True}, "no")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)  # noqa: B023
        assert best_precision() == precision
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert best_precision() == "no"


@pytest.mark.parametrize(
    ("capability", "native_bf16", "precision"),
    [((8, 0), True, "bf16"), ((7, 5), False, "fp16"), ((7, 0), False, "fp16"), ((6, 1), False, "no")],
)
def test_a_gpu_gets_what_its_matrix_units_are_made_for(
    capability, native_bf16, precision, monkeypatch
) -> None:
    """Ampere, Turing, Volta, Pascal; bfloat16 that is only emulated does not count."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: native_bf16 or including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(hardware, "device_type", lambda: "cuda")
    assert gpu_precision() == precision
