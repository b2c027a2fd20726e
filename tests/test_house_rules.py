"""The house rules of CONTRIBUTING.md that no linter knows."""

import ast
import io
import subprocess
import tokenize
from pathlib import Path

import pytest

import usecases

ROOT = Path(__file__).parent.parent
FOLDERS = ("orrery", "usecases", "cli", "pipelines", "services", "feature_repo", "benchmarks", "requirements")
SHARED = ("orrery", "services", "pipelines", "feature_repo")
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "base", "manager"}
MOST_FILE_LINES, MOST_FUNCTION_LINES, MOST_DEPTH = 200, 40, 3


def sources() -> list[Path]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return [path for path in files if not path.name.startswith("test_")]


def code_lines(text: str) -> set[int]:
    """The lines that hold code: no blank, no comment, no docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    lines = code_lines(text)
    assert len(lines) <= MOST_FILE_LINES, f"{len(lines)} code lines; the most is {MOST_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = len([line for line in lines if node.lineno <= line <= (node.end_lineno or 0)])
            assert size <= MOST_FUNCTION_LINES, f"{node.name}: {size} code lines; the most is {MOST_FUNCTION_LINES}"


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_every_module_has_a_caption(path: Path) -> None:
    caption = ast.get_docstring(ast.parse(path.read_text()))
    assert caption, "a module starts with one line that says what it is"


def test_names_say_what_is_inside() -> None:
    bad = [relative(path) for path in sources() if set(Path(relative(path)).with_suffix("").parts) & FORBIDDEN_NAMES]
    assert not bad


def test_folders_are_shallow() -> None:
    assert not [relative(path) for path in sources() if len(path.relative_to(ROOT).parts) - 1 > MOST_DEPTH]


def test_shared_code_names_no_use_case() -> None:
    names = usecases.names()
    assert names
    for folder in SHARED:
        for path in (ROOT / folder).rglob("*.py"):
            words = {token.string for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)}
            text = " ".join(words).lower()
            assert not [name for name in names if name in text], f"{relative(path)} names a use case"


def test_use_cases_never_ask_the_clock() -> None:
    clocks = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}
    for path in (ROOT / "usecases").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in clocks, f"{relative(path)}:{node.lineno}: pass the moment in"


def test_nothing_foreign_is_committed() -> None:
    """No address of a package registry, no private key, no path of somebody's machine."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    words = [part + rest for part, rest in (("pypi.", "org"), ("pythonhosted", ".org"), ("download.pytorch", ".org"))]
    words += ["BEGIN " + "PRIVATE KEY", "/root" + "/", "/work" + "/"]
    for name in filter(None, tracked.stdout.split("\0")):
        content = (ROOT / name).read_bytes().decode(errors="ignore") if (ROOT / name).is_file() else ""
        assert not [word for word in words if word in content], name
