"""supervisord's configuration, made of the service table."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from cli.services import Service
from orrery.errors import OrreryError


class NotConfigurable(OrreryError):
    """A path that supervisord's configuration cannot hold."""


_PROGRAM = """
[program:{name}]
command={command}
directory={directory}
environment={environment}
autostart=false
autorestart=true
startsecs=10
startretries=2
stopasgroup=true
killasgroup=true
stopwaitsecs={grace}
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""

_CONFIG = """; environment {digest}
[unix_http_server]
file={folder}/supervisor.sock
chmod=0600
[supervisord]
pidfile={folder}/supervisor.pid
logfile={logs}/supervisor.log
logfile_maxbytes=10MB
logfile_backups=3
childlogdir={logs}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


def config(services: Sequence[Service], home: Path, environment: Mapping[str, str], directory: Path) -> str:
    """supervisord's configuration. It names the environment by a digest, so that a change of settings is seen."""
    logs = home / "logs"
    settings = sorted(f"{name}={value}" for name, value in environment.items() if name.startswith("ORRERY_"))
    digest = sha256("\n".join(settings).encode()).hexdigest()[:16]
    programs = (
        _PROGRAM.format(
            name=service.name,
            command=" ".join(f'"{_escaped(part)}"' for part in service.command),
            directory=_escaped(str(directory)),
            environment=",".join(f'{name}="{_escaped(value)}"' for name, value in service.environment.items()),
            grace=service.grace_seconds,
            log=_escaped(str(logs / f"{service.name}.log")),
        )
        for service in services
    )
    header = _CONFIG.format(digest=digest, folder=_escaped(str(home / "run")), logs=_escaped(str(logs)))
    return header + "".join(programs)


def _escaped(value: str) -> str:
    if '"' in value or "\n" in value:
        raise NotConfigurable(f"{value!r} cannot be passed to supervisord; use a path without quotes")
    return value.replace("%", "%%")
