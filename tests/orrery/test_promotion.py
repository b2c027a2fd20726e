"""One champion, always whole: promotion and rollback, interrupted at every step."""

import threading

import pytest

from orrery.adapters.audit_log import AuditLog
from orrery.adapters.registry import CHAMPION, PREVIOUS, Record, Registry
from orrery.lifecycle import Release
from orrery.promotion import Promoter, PromotionRefused


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@pytest.fixture
def releases(registry, make_bundle):
    """Three registered, passed releases."""

    def release(key):
        bundle = make_bundle()
        run_id = registry.log_run(Record("toy", key, {}, {}, {"idempotency_key": key}, bundle))
        tags = {"idempotency_key": key, "digest": bundle.digest, "gate": "passed"}
        version = registry.register("toy", run_id, tags)
        return Release("toy", version.version, bundle.digest, run_id)

    return [release(key) for key in "abc"]


@pytest.fixture
def promoter(catalogue):
    return Promoter(catalogue, actor="tester")


def aliases(registry):
    return {alias: version.version for version in registry.versions("toy") for alias in version.aliases}


def history(catalogue):
    return [(record["action"], record["details"]["champion"]) for record in AuditLog(catalogue).records()]


def test_promotion_moves_both_aliases_and_is_idempotent(registry, releases, promoter, catalogue):
    first, second, _ = releases
    assert promoter.promote(first).previous is None
    assert promoter.promote(second).previous == first.version
    assert not promoter.promote(second).changed
    assert aliases(registry) == {CHAMPION: second.version, PREVIOUS: first.version}
    assert history(catalogue) == [("promote", first.version), ("promote", second.version)]
    assert {record["actor"] for record in AuditLog(catalogue).records()} == {"tester"}


def test_rollback_goes_one_step_back(registry, releases, promoter):
    first, second, _ = releases
    promoter.promote(first)
    with pytest.raises(PromotionRefused, match="orrery promote toy"):
        promoter.rollback("toy")
    promoter.promote(second)
    assert promoter.rollback("toy").version == first.version
    assert aliases(registry) == {CHAMPION: first.version}
    with pytest.raises(PromotionRefused):
        promoter.rollback("toy")


def test_only_what_passed_the_gate_is_promoted(registry, releases, promoter, make_bundle):
    bundle = make_bundle()
    run_id = registry.log_run(Record("toy", "x", {}, {}, {"idempotency_key": "x"}, bundle))
    version = registry.register("toy", run_id, {"idempotency_key": "x", "digest": bundle.digest})
    with pytest.raises(PromotionRefused, match="gate"):
        promoter.promote_version("toy", version.version)
    with pytest.raises(PromotionRefused, match="gate"):
        promoter.promote(Release("toy", releases[0].version, "another digest", run_id))
    assert promoter.promote_version("toy", releases[0].version).changed


class Interrupted(Registry):
    """A registry whose process is killed before or after its n-th change of an alias."""

    def __init__(self, settings, change, before):
        super().__init__(settings)
        self.left, self.before = change, before

    def _maybe_die(self, before):
        if self.left == 0 and before == self.before:
            raise Killed

    def set_alias(self, *arguments):
        self._maybe_die(before=True)
        super().set_alias(*arguments)
        self._maybe_die(before=False)
        self.left -= 1


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("change", [0, 1])
def test_a_promotion_killed_anywhere_is_healed_by_running_it_again(
    registry, releases, promoter, catalogue, change, before
):
    first, second, _ = releases
    promoter.promote(first)
    with pytest.raises(Killed):
        Promoter(catalogue, Interrupted(catalogue, change, before)).promote(second)
    assert aliases(registry)[CHAMPION] in {first.version, second.version}
    promoter.promote(second)
    assert aliases(registry) == {CHAMPION: second.version, PREVIOUS: first.version}
    assert [champion for _, champion in history(catalogue)] == [first.version, second.version]


def test_an_alias_moved_outside_is_put_on_record(registry, releases, promoter, catalogue):
    first, second, third = releases
    promoter.promote(first)
    registry.set_alias("toy", CHAMPION, second.version)
    promoter.promote(third)
    assert history(catalogue) == [
        ("promote", first.version), ("recovered", second.version), ("promote", third.version),
    ]  # fmt: skip
    assert aliases(registry)[PREVIOUS] == second.version


def test_what_the_log_says_of_alerts_and_refusals_is_no_alias_moved_outside(promoter, releases, catalogue):
    first, second, _ = releases
    promoter.promote(first)
    for action in ("retrain started", "release refused"):
        AuditLog(catalogue).append(action, "toy", {"cause": "toy/f1/now"})
    promoter.promote(second)
    last = list(AuditLog(catalogue).records())[-1]
    assert (last["sequence"], last["action"]) == (4, "promote")
    assert last["details"]["before"] == first.version


def test_two_promotions_at_once_follow_each_other(registry, releases, catalogue):
    threads = [threading.Thread(target=Promoter(catalogue).promote, args=(release,)) for release in releases[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    champions = [champion for _, champion in history(catalogue)]
    assert sorted(champions) == sorted(release.version for release in releases[:2])
    assert aliases(registry) == {CHAMPION: champions[1], PREVIOUS: champions[0]}
