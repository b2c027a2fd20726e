"""`orrery bench`: runs the measurements under benchmarks/, each a module of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.console import results, say
from orrery.errors import OrreryError

ROOT = Path(__file__).parents[1]


class UnknownBenchmark(OrreryError):
    """There is no module of that name under benchmarks/."""


def benchmarks() -> dict[str, str]:
    """Name -> the caption of its module, in alphabetical order; what cannot be run is no benchmark."""
    import ast

    texts = {path.stem: path.read_text() for path in sorted((ROOT / "benchmarks").glob("[a-z]*.py"))}
    return {
        name.replace("_", "-"): (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        for name, text in texts.items()
        if 'if __name__ == "__main__"' in text
    }


def bench(
    name: Annotated[str, typer.Argument(help="which one, or `all`; without it they are listed")] = "",
    use_case: Annotated[str, typer.Option(help="whose requests `gateway` sends; by default fraud's")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="the measurements as JSON, one document a benchmark")] = False,
) -> None:
    """Measure, and print the tables that the README shows.

    Example: orrery bench gateway --use-case recommendation
    """
    known = benchmarks()
    if not name:
        for each, caption in known.items():
            results().print(f"{each:<16} {caption}", markup=False)
        return
    if name != "all" and name not in known:
        raise UnknownBenchmark(f"there is no benchmark {name!r}; there are: {', '.join(known)}")
    if use_case and name != "gateway":
        raise typer.BadParameter("only `gateway` measures one use case or another", param_hint="--use-case")
    options = [*(["--json"] if as_json else []), *(["--use-case", use_case] if use_case else [])]
    failed = [each for each in (known if name == "all" else [name]) if not _passed(each, options)]
    if failed:
        say(f"failed: {', '.join(failed)}")
        raise typer.Exit(1)


def _passed(name: str, options: list[str]) -> bool:
    say(f"bench {name}")
    command = [sys.executable, "-m", f"benchmarks.{name.replace('-', '_')}", *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603
