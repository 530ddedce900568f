"""Rules about the tree itself, which no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "operator" / "spotjob"
AGENT = PACKAGE / "agent" / "agent.py"
LOCKS = ROOT / "deploy" / "requirements"

TOP_LEVEL = {
    *("operator", "crds", "deploy", "tests", "examples", "docs"),
    *("pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *(".ci", ".gitignore"),
}


def committed() -> list[Path]:
    """Every file that git knows of, as far as it is still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def modules() -> list[Path]:
    return [path for path in committed() if path.suffix == ".py" and path.is_relative_to(PACKAGE)]


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def imports(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def pins(lock: str) -> dict[str, Requirement]:
    lines = re.findall(r"^[a-z0-9][^\\\n]*", (LOCKS / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in committed()} == TOP_LEVEL


def test_the_source_root_is_no_package_because_it_would_shadow_operator_of_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    assert [path for path in modules() if path.stem in sys.stdlib_module_names and not path.stem.startswith("__")] == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert [path for path in modules() if drawers & {path.stem, path.parent.name}] == []


def test_no_file_of_code_is_longer_than_300_lines_but_the_agent() -> None:
    code = [path for path in committed() if path.suffix == ".py" and path != AGENT]
    assert {str(path.relative_to(ROOT)): length(path) for path in code if length(path) > 300} == {}


def test_the_agent_is_one_file_of_at_most_500_lines_of_standard_library() -> None:
    assert length(AGENT) <= 500
    assert imports(AGENT) <= set(sys.stdlib_module_names)


PRIVATE = (
    r"/(?:work|farm|root|home/\w+|tmp/venv)/",  # a path of somebody's machine
    r"index[-_]url|GOPROXY\s*=|\"resolved\":\s*\"http",  # where somebody gets packages from
)


@pytest.mark.parametrize("pattern", PRIVATE)
def test_nothing_committed_tells_of_the_machine_it_was_written_on(pattern: str) -> None:
    texts = {path: path.read_text(errors="replace") for path in committed() if path != Path(__file__)}
    told = {
        str(path.relative_to(ROOT)): found[0] for path, text in texts.items() if (found := re.search(pattern, text))
    }
    assert told == {}


@pytest.mark.parametrize("lock", ["runtime.txt", "development.txt"])
def test_the_locks_pin_by_hash_and_name_no_address(lock: str) -> None:
    text = (LOCKS / lock).read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z0-9])", text))


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        "runtime.txt": project["dependencies"],
        "development.txt": [
            *project["dependencies"],
            *(r for e in project["optional-dependencies"].values() for r in e),
        ],
    }
    for lock, requirements in asked.items():
        pinned = pins(lock)
        for wanted in map(Requirement, requirements):
            if wanted.name != project["name"]:
                (pin,) = pinned[canonicalize_name(wanted.name)].specifier
                assert wanted.specifier.contains(pin.version), f"{wanted} in {lock}"


def test_both_locks_agree() -> None:
    development = pins("development.txt")
    assert {name: pin for name, pin in pins("runtime.txt").items() if development.get(name) != pin} == {}


def test_operator_and_api_start_without_what_only_the_laptop_platform_needs() -> None:
    """The image has the runtime lock only."""
    laptop_only = ("moto", "werkzeug", "flask", "cryptography", "docker")
    program = f"""
import sys
for name in {laptop_only!r}:
    sys.modules[name] = None  # importing it is an ImportError
import spotjob.cli, spotjob.api.app, spotjob.controller.handlers
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "operator", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
