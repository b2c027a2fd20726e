"""Resolve every role's dependencies into requirements/<role>.txt; roles that train get a CPU and a GPU lock."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROLES = ("gateway", "server", "monitor")
TORCH_ROLES = ("trainer", "torchserve", "dev")


def compile_lock(role: str, output: str, *options: str) -> None:
    """Write requirements/<output>.txt for the extra `role`. Raises CalledProcessError when there is no solution."""
    (ROOT / "requirements" / f"{output}.txt").unlink(missing_ok=True)
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", role, "--quiet"]
    command += [
        "--python-version",
        "3.11",
        "--no-header",
        "--no-annotate",
        "--no-emit-find-links",
        "--no-emit-index-url",
    ]
    command += ["--override", "requirements/overrides.in"]
    command += ["--output-file", f"requirements/{output}.txt", *options]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603


def main() -> None:
    """Write all locks."""
    for role in ROLES:
        compile_lock(role, role)
    for role in TORCH_ROLES:
        # the CPU build is named by its local version, so that no index serves the CUDA one for it
        compile_lock(role, f"{role}-cpu", "--constraint", "requirements/cpu.in")
        compile_lock(role, f"{role}-gpu", "--constraint", "requirements/gpu.in", "--find-links", "requirements")


if __name__ == "__main__":
    main()
