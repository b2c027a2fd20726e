"""The environments of what the embedded platform starts, beside the ORRERY_* settings."""

from pathlib import Path

from orrery.settings import Settings


def quiet(settings: Settings) -> dict[str, str]:
    """The environment of every child: caches under home, no telemetry, and threads that sleep while they wait."""
    cache = folder(settings, "cache")
    return {
        "XDG_CACHE_HOME": str(cache),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "DO_NOT_TRACK": "true",
        "ORT_DISABLE_TELEMETRY": "1",
        # spinning OpenMP threads make training twenty times slower on cores that others use too
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def orchestration(settings: Settings) -> dict[str, str]:
    """The environment of whatever talks to Prefect: its address, and a home of its own."""
    return {
        "PREFECT_HOME": str(folder(settings, "prefect")),
        "PREFECT_API_URL": settings.prefect_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # who asks for a run waits for it
    }


def catalogue(settings: Settings) -> dict[str, str]:
    """The environment of MLflow's server and of `mlflow db upgrade`."""
    where = settings.mlflow
    return {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder(settings, 'mlflow') / 'mlflow.db'}",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"localhost:*,127.0.0.1:*,[[]::1]:*,{where.host}:{where.port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def folder(settings: Settings, name: str) -> Path:
    """Where a service keeps what it writes."""
    return (settings.home / name).absolute()
