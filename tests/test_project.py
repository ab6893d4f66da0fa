# SPDX-License-Identifier: Apache-2.0
"""Rules of the house: file sizes, names, what the wheel holds, what the model files need."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import scratch_gpt


ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("scratch_gpt", "train", "eval") for path in (ROOT / folder).rglob("*.py")
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as it would be released."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_public_names_are_sorted_and_exist() -> None:
    """`__all__` can be read at a glance, and every name in it can be imported."""
    assert scratch_gpt.__all__ == sorted(scratch_gpt.__all__)
    assert [name for name in scratch_gpt.__all__ if not hasattr(scratch_gpt, name)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_short(path: Path) -> None:
    """A file can be read in one sitting: 400 lines, the model 560."""
    limit = 560 if path.name == "modeling_scratch_gpt.py" else 400
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_name_their_license(path: Path) -> None:
    """Every source file that holds code begins with the SPDX line."""
    text = path.read_text(encoding="utf-8")
    assert not text or text.startswith("# SPDX-License-Identifier: Apache-2.0\n")


def test_no_grab_bags() -> None:
    """Every module has a subject."""
    assert [path for path in SOURCES if path.stem in ("utils", "common", "helpers", "misc")] == []


def test_script_names_shadow_no_module() -> None:
    """A script's folder comes first on sys.path, so its files must not be called like anything that is imported."""
    importable = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    scripts = {path.stem for folder in ("train", "eval") for path in (ROOT / folder).rglob("*.py")}
    assert scripts & importable == set()


def test_tests_mirror_the_library() -> None:
    """The tests of a module stand where the module stands, so that one finds them."""
    library = ROOT / "scratch_gpt"
    modules = {path.relative_to(library).with_suffix("") for path in library.rglob("*")}
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    of_the_library = [test for test in tests if test.parts[0] not in ("train", "eval")]
    strays = [
        test for test in of_the_library if test.with_name(test.stem.removeprefix("test_")) not in modules
    ]
    assert sorted(strays) == [
        Path("primer/test_primer.py"),
        Path("test_architecture.py"),
        Path("test_clients.py"),
        Path("test_docs.py"),
        Path("test_modeling_auto_classes.py"),
        Path("test_modeling_encoder.py"),
        Path("test_modeling_generation.py"),
        Path("test_older_transformers.py"),
        Path("test_project.py"),
        Path("test_prose.py"),
        Path("test_reading_page.py"),
        Path("test_reference_pages.py"),
        Path("test_remote_code.py"),
        Path("test_tokenization_imported.py"),
        Path("training/pretrain/test_document_boundaries.py"),
        Path("training/pretrain/test_phases.py"),
    ]


def test_versions_agree(wheel: Path) -> None:
    """The built package, the code, the citation and the newest dated section of the changelog have one version."""
    assert wheel.name.split("-")[1] == scratch_gpt.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == scratch_gpt.__version__
    dated = re.findall(r"^## ([\d.]+) - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert dated[0] == (scratch_gpt.__version__, citation["date-released"])


def test_supported_versions_agree() -> None:
    """The table of docs/start/install.md is pyproject.toml's lower bounds and constraints.txt's pins, and each pin is in its bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if not line.startswith("#")
    )
    table = (
        (ROOT / "docs" / "start" / "install.md")
        .read_text("utf-8")
        .split("| | lowest | tested by `make test` |\n")[1]
    )
    rows = [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()[1:]]
    bounds = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    assert len(rows) == 7
    for name, lowest, pinned in rows:
        assert f">={lowest}" in str(bounds[name]).split(",")
        assert pinned == pins[name]
    for name in bounds.keys() & pins.keys():
        assert bounds[name].contains(pins[name])


def test_configs_are_mappings() -> None:
    """Every YAML file of the recipes parses to key and value."""
    files = [path for folder in ("train", "eval") for path in (ROOT / folder).rglob("*.yaml")]
    assert files
    assert [path for path in files if not isinstance(yaml.safe_load(path.read_text("utf-8")), dict)] == []


def test_wheel_holds_one_package_with_the_recipes_inside(wheel: Path) -> None:
    """`scratch_gpt` is all that reaches site-packages, and the recipes, configs and card template are in it; benchmarks of the code are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"scratch_gpt"}
    shipped = {
        path.relative_to(ROOT).as_posix()
        for folder in ("train", "eval")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml") and "engineering" not in path.parts
    }
    missing = {f"scratch_gpt/_scripts/{name}" for name in {*shipped, "model_card.md"}} - set(names)
    assert missing == set()
    assert [name for name in names if "engineering" in name] == []
    assert {"scratch_gpt/py.typed", "scratch_gpt/chat_template.jinja"} <= set(names)
    assert [name for name in names if "__pycache__" in name] == []
