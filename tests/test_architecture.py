# SPDX-License-Identifier: Apache-2.0
"""The house is one-way: the packages of the library import downwards only, also inside functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent

# From the ground up. A package may import those of lower rows, and nothing of its own row but itself.
ROWS = (
    ("errors", "configuration_scratch_gpt", "native_libraries", "plain_messages"),
    ("modeling_scratch_gpt_inputs", "tokenization"),
    ("modeling_scratch_gpt",),
    ("modeling_scratch_gpt_encoder_decoder",),
    ("registration",),
    ("scratch_gpt",),  # imports it
    ("settings", "tasks"),
    ("runs", "primer"),
    ("data.sources", "data.collators"),
    ("data.shards", "data.rows"),
    ("inference",),
    ("evaluation.metrics",),
    ("evaluation.harness",),
    ("evaluation.benchmarks",),
    ("evaluation.compare",),
    ("publishing",),
    ("training.pretrain", "training.posttrain"),
    ("training.planning", "training.rl"),
    ("report", "serving", "export"),
    ("launching", "command_group"),
    ("pipeline",),
    ("demo", "new"),
    ("cli",),
    ("__main__",),
)
FLOOR = {package: floor for floor, row in enumerate(ROWS) for package in row}

Import = tuple[str, str]  # importer, imported


def module_of(path: Path, root: Path) -> str:
    """`scratch_gpt/data/rows/splits.py` -> `data.rows.splits`; the package itself -> `scratch_gpt`."""
    parts = path.relative_to(root / "scratch_gpt").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "scratch_gpt"


def imports(root: Path) -> Iterator[Import]:
    """Every import of one module of the library by another, wherever it stands."""
    files = {module_of(path, root): path for path in sorted((root / "scratch_gpt").rglob("*.py"))}
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                # the model files travel with checkpoints, where there is no package
                assert not node.level or path.stem.startswith("modeling_"), f"{path}: relative import"
                base = f"scratch_gpt.{node.module}" if node.level else node.module
                names = [f"{base}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] != "scratch_gpt":
                    continue
                # the longest part of the name that is a module; what is left is a name in it
                found = name.removeprefix("scratch_gpt").lstrip(".")
                while found and found not in files:
                    found = found.rpartition(".")[0]
                yield module, found or "scratch_gpt"


def package_of(module: str) -> str:
    """The package, or the single module, of `ROWS` that a module belongs to; one that is in none belongs to itself."""
    parts = module.split(".")
    prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in FLOOR), module)


def faults(found: list[Import]) -> list[str]:
    """The imports that do not lead to a lower row, and the packages that no row declares."""
    told = []
    for importer, imported in found:
        pair = package_of(importer), package_of(imported)
        unknown = [package for package in pair if package not in FLOOR]
        if unknown:
            told.append(f"{unknown[0]} stands in no row")
        elif pair[0] != pair[1] and FLOOR[pair[0]] <= FLOOR[pair[1]]:
            told.append(f"{importer} imports {imported}")
    return told


def circles(found: list[Import]) -> set[str]:
    """Modules that import each other in a circle."""
    left: dict[str, set[str]] = {}
    for importer, imported in found:
        left.setdefault(importer, set()).add(imported)
        left.setdefault(imported, set())
    # take away what imports nothing that is left, until only circles and what imports them remain; then from above
    while ground := {module for module, below in left.items() if not below & left.keys()}:
        left = {module: below for module, below in left.items() if module not in ground}
    while roof := left.keys() - {each for below in left.values() for each in below}:
        left = {module: below for module, below in left.items() if module not in roof}
    return set(left)


def test_imports_lead_down() -> None:
    """No package imports one of its own row or of a higher one, lazily or not; every module has its row."""
    found = list(imports(ROOT))
    assert len(found) > 300
    assert faults(found) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Within a package too."""
    assert circles(list(imports(ROOT))) == set()


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("data/rows/x.py", "from scratch_gpt.inference.loading import load_model", "data.rows.x imports inference.loading"),
        ("data/rows/x.py", "def f():\n    from scratch_gpt import cli", "data.rows.x imports cli"),
        ("data/rows/x.py", "import scratch_gpt.data.shards.blocks", "data.rows.x imports data.shards.blocks"),
        ("runs/x.py", "from scratch_gpt.inference import loading", "runs.x imports inference.loading"),
        ("helpers/x.py", "from scratch_gpt.errors import UserError", "helpers.x stands in no row"),
        ("cli.py", "from scratch_gpt.runs.folders import lock", None),
        ("errors.py", "import scratch_gpt", "errors imports scratch_gpt"),
    ],
)  # fmt: skip
def test_an_import_upwards_is_found(file: str, line: str, fault: str | None, tmp_path: Path) -> None:
    """At the top of a file, inside a function, of a module or a name, beside its own row."""
    for name in (
        "__init__",
        "cli",
        "errors",
        "inference/loading",
        "data/shards/blocks",
        "runs/folders",
        file[:-3],
    ):
        path = tmp_path / "scratch_gpt" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line if path.match(file) else "")
    assert faults(list(imports(tmp_path))) == ([fault] if fault else [])


def test_a_circle_is_found() -> None:
    """Two modules of one package, and not what stands below or above them."""
    chain = [("cli", "runs.a"), ("runs.a", "runs.b"), ("runs.b", "errors")]
    assert circles(chain) == set()
    assert circles([*chain, ("runs.b", "runs.a")]) == {"runs.a", "runs.b"}


def test_every_package_says_what_it_may_import() -> None:
    """In the docstring of its `__init__.py`."""
    silent = [
        path
        for path in (ROOT / "scratch_gpt").rglob("*/__init__.py")
        if "Imports " not in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    ]
    assert silent == []


def test_whoever_loads_a_model_has_its_classes() -> None:
    """The command registers them late, and the demo only by loading: without that its models would be remote code."""
    assert ("inference.loading", "registration") in set(imports(ROOT))
