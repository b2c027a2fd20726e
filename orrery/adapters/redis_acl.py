"""Who may do what in Redis: the text of its ACL file."""

import hashlib

_USE = "ping select hmget hset hgetall get set watch unwatch multi exec"
"""what the online store's adapter sends"""
_FEAST = "hdel hkeys del scan"
"""what Feast adds when a view goes"""
_BACKUP = "sync psync replconf"
"""what `redis-cli --rdb` sends"""
_WATCH = "ping info client|setname latency|latest"
"""what its exporter sends, which reads no key"""


def users(gateway: str, worker: str, exporter: str, project: str = "orrery") -> str:
    """The ACL file for these passwords, of which it holds only the SHA-256. `project`: as ORRERY_STORE__PROJECT.

    Feast's keys are binary and end in the project; so do ours. Nobody can be the default user, which is off; it may do
    everything, because Redis replays its own log as that user after a crash, and drops transactions it may not do.
    """
    return (
        "user default off ~* &* +@all\n"
        "user health on nopass resetkeys resetchannels -@all +ping\n"
        f"user gateway on #{_digest(gateway)} resetchannels ~*{project} -@all {_allowed(_USE)}\n"
        f"user worker on #{_digest(worker)} resetchannels ~*{project} -@all {_allowed(_USE, _FEAST, _BACKUP)}\n"
        f"user exporter on #{_digest(exporter)} resetkeys resetchannels -@all {_allowed(_WATCH)}\n"
    )


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _allowed(*commands: str) -> str:
    return " ".join(f"+{command}" for command in " ".join(commands).split())
