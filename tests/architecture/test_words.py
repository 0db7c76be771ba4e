"""Names, and what the project says of itself."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from docs.lifecycle import drawn

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = re.compile(r"(Manager|Helper|Util|Utils|Base|Impl|Data|Info|Handler|Processor)$")
# A library's own base class, or a word of the domain that merely ends so.
ALLOWED = {"DataKey"}


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _public_classes(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return [
        node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def test_the_public_names_of_the_domain_stand_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    words = set(re.findall(r"[A-Za-z]+", glossary.replace("\u202f", " ")))
    squeezed = re.sub(r"[ ,`|-]", "", glossary).casefold()
    # errors are described by their own docstrings
    domain = [path for path in _sources("hub/domain") if path.name != "errors.py"]
    missing = {
        name
        for path in domain
        for name in _public_classes(path)
        if name not in words and name.casefold() not in squeezed
    }
    assert not missing


def test_no_name_says_nothing() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _sources("hub", "connectors", "schemas", "demo", "benchmarks")
        for name in _public_classes(path)
        if FORBIDDEN.search(name) and name not in ALLOWED
    }
    assert not found


def test_every_file_says_which_room_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in _sources("hub", "connectors", "schemas", "demo", "benchmarks", "tests")
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent


def test_the_diagram_of_a_deliverys_life_is_drawn_from_the_table() -> None:
    assert (ROOT / "docs" / "lifecycle.md").read_text("utf-8") == drawn()


def test_the_distribution_holds_the_import_packages_and_is_never_uploaded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "hub",
        "connectors",
        "schemas",
        "routing_rules",
    ]
    assert "Private :: Do Not Upload" in project["project"]["classifiers"]


def test_the_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in lock
    entries = re.split(r"\n(?=[a-z])", lock.split("\n", 2)[2])
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)


def test_the_project_names_no_machine() -> None:
    """No path of the machine it was written on, and no registry's host."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: clone the repository to run this test")
    names = [name for name in listed.stdout.decode().splitlines() if not name.endswith((".gz", ".lock"))]
    machine = re.compile(r"/root/|/home/[a-z]|/work/|pypi\.org|pythonhosted|registry\.npmjs")
    found = [
        name
        for name in names
        if name != "tests/architecture/test_words.py"
        and (ROOT / name).is_file()
        and machine.search((ROOT / name).read_text("utf-8", "replace"))
    ]
    assert not found
