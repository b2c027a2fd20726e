"""Every promise of the README has a test: docs/claims.yml names it, and this holds the two together."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CLAIMS = yaml.safe_load((ROOT / "docs" / "claims.yml").read_text())
README = (ROOT / "README.md").read_text()


def promises() -> list[str]:
    """The README's promises: the bullets under the headings that promise something."""
    section = README.split("## What it does", 1)[1].split("\n## ", 1)[0]
    return [re.sub(r"\s+", " ", text).strip() for text in re.findall(r"^- (.+?)(?=^- |\Z)", section, re.M | re.S)]


def functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_promise_is_listed() -> None:
    assert promises()
    assert [claim["claim"] for claim in CLAIMS] == [re.match(r"\*\*(.+?)\*\*", text).group(1) for text in promises()]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["claim"])
def test_every_claim_names_tests_that_exist(claim: dict[str, object]) -> None:
    assert claim["tests"]
    for test in claim["tests"]:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), f"{file} is not there"
        assert name in functions(ROOT / file), f"{file} has no {name}"


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_readme_commands_exist() -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^make ([a-z]+)", README, re.M)) <= verbs
