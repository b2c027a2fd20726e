"""How each use case stands, as the gateway tells it; the last release also where only this side has the audit log."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.gateway import GatewayDown, GatewayRefused, ask_gateway
from cli.keys import NoClientKey
from orrery.settings import Settings

_RELEASE = "last_release"


def standings(configured: Settings) -> tuple[Sequence[Mapping[str, Any]] | None, str]:
    """What `GET /v1/status` says of every use case; None and why, where it says nothing."""
    try:
        found = ask_gateway(configured, "/v1/status")["use_cases"]
    except (GatewayDown, GatewayRefused, NoClientKey) as error:
        return None, str(error)
    return [_completed(configured, each) for each in found], ""


def _completed(configured: Settings, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """In containers the gateway has a home of its own, without the audit log."""
    if told[_RELEASE] is not None:
        return told
    release = _released(configured, told["use_case"])
    if release is None:
        return told
    unknown = {name: why for name, why in told["unknown"].items() if name != _RELEASE}
    return {**told, _RELEASE: release, "unknown": unknown}


def _released(configured: Settings, use_case: str) -> Mapping[str, Any] | None:
    from orrery.adapters.audit_log import AuditLog
    from orrery.last_release import last_releases

    found = last_releases(AuditLog(configured).records()).get(use_case)
    return found.model_dump(mode="json") if found else None


def rows(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table with a use case in each column."""
    columns = {each["use_case"]: _column(each) for each in told}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [{"": name, **{use_case: column[name] for use_case, column in columns.items()}} for name in names]


def _column(told: Mapping[str, Any]) -> dict[str, Any]:
    traffic, slo, drift = told["traffic"], told["slo"], told["drift"]
    maturity, release = told["label_maturity"], told[_RELEASE]
    return {
        "champion": told["champion"],
        "served": told["served"],
        "answers, 5 min": f"{traffic['answers_five_minutes']:,}",
        "by version": ", ".join(_share(each) for each in traffic["answering"]) or None,
        "answers": f"{traffic['answers']:,}, {traffic['degraded']:,} degraded, {traffic['failed']:,} failed",
        "SLO": f"{slo['attained']:.2%} of {slo['objective']:.1%}" if slo else None,
        "budget left": f"{slo['budget_left']:.0%}" if slo else None,
        "drift": _drift(drift) if drift else None,
        "labels": f"{maturity:.0%}" if maturity is not None else None,
        "last release": _release(release) if release else None,
    }


def reasons(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why something is not known, each reason once."""
    why: dict[tuple[str, str], list[str]] = {}
    for each in told:
        for name, reason in each["unknown"].items():
            why.setdefault((name, reason), []).append(each["use_case"])
    return [f"{name.replace('_', ' ')} of {', '.join(of)}: {reason}" for (name, reason), of in why.items()]


def _share(answering: Mapping[str, Any]) -> str:
    who = answering["version"] or "no model"
    variant = "" if answering["variant"] in {"champion", "fallback"} else f" {answering['variant']}"
    return f"{who}{variant} {answering['share']:.0%}"


def _drift(drift: Mapping[str, Any]) -> str:
    sustained = " (sustained)" if drift["sustained"] else ""
    return f"{drift['verdict']}{sustained}, {drift['first'][:10]} to {drift['last'][:10]}"


def _release(release: Mapping[str, Any]) -> str:
    version = f" {release['version']}" if release["version"] else ""
    why = "; ".join([*filter(None, [release["cause"]]), *release["reasons"]]) or f"by {release['by']}"
    return f"{release['outcome']}{version}, {release['at'][:16].replace('T', ' ')}: {why}"
