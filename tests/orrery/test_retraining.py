"""The policy of alerts that ask for a retraining: what it promises whatever the facts are."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orrery.retraining import (
    APPROVED,
    DECLINED,
    PERIOD,
    REFUSED,
    STARTED,
    Alert,
    Facts,
    cooldown_minutes,
    decide,
    history,
)
from orrery.watch_settings import RetrainSettings

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
POLICY = RetrainSettings(policy="auto", cooldown_minutes=60, labels=100, budget=3)

ages = st.floats(0, 90 * 1_440)
facts = st.builds(
    lambda ages, **others: Facts(now=NOW, starts=tuple(NOW - timedelta(minutes=age) for age in ages), **others),
    ages=st.lists(ages, max_size=6),
    refusals=st.integers(0, 2_000),
    labels=st.integers(0, 10**7),
    since=st.one_of(st.none(), st.just(NOW - timedelta(days=3))),
    running=st.integers(0, 3),
)
policies = st.builds(
    RetrainSettings,
    policy=st.sampled_from(["auto", "suggest", "off"]),
    cooldown_minutes=st.floats(0, 10**9),
    labels=st.integers(0, 10**7),
    budget=st.integers(0, 10),
)


def good(**others) -> Facts:
    values = {"now": NOW, "starts": (), "refusals": 0, "labels": 100, "since": NOW - timedelta(days=3), "running": 0}
    return Facts(**values | others)


@given(facts, policies)
def test_it_never_starts_within_the_cooldown_beyond_the_budget_or_beside_another(known, policy):
    decision = decide(known, policy)
    assert decision.reasons
    if decision.verdict == "decline":
        return
    assert decision.verdict == {"auto": "start", "suggest": "suggest"}[policy.policy]
    assert known.labels >= policy.labels
    assert known.running == 0
    assert sum(NOW - start < PERIOD for start in known.starts) < policy.budget
    for start in known.starts:
        assert (NOW - start).total_seconds() / 60 >= cooldown_minutes(known.refusals, policy)


@given(facts, policies, st.integers(0, 10**7))
def test_more_labels_never_turn_a_yes_into_a_no(known, policy, more):
    if decide(known, policy).verdict != "decline":
        with_more = Facts(**{**vars(known), "labels": known.labels + more})
        assert decide(with_more, policy).verdict == decide(known, policy).verdict


@given(facts, policies)
def test_a_refusal_more_never_turns_a_no_into_a_yes(known, policy):
    if decide(known, policy).verdict == "decline":
        worse = Facts(**{**vars(known), "refusals": known.refusals + 1})
        assert decide(worse, policy).verdict == "decline"


@given(st.integers(0, 2_000), policies)
def test_the_cooldown_doubles_up_to_thirty_days(refusals, policy):
    once, more = cooldown_minutes(refusals, policy), cooldown_minutes(refusals + 1, policy)
    assert policy.cooldown_minutes <= once <= more <= max(policy.cooldown_minutes, 30 * 1_440)
    assert more in {once, 2 * once, 30 * 1_440}


@given(st.lists(st.floats(0, 5_000), max_size=60), policies.filter(lambda policy: policy.policy == "auto"))
def test_over_time_starts_keep_their_distance_and_the_budget(waits, policy):
    starts, now = [], NOW
    for wait in waits:
        now += timedelta(minutes=wait)
        if decide(good(now=now, starts=tuple(starts), labels=10**7), policy).verdict == "start":
            starts.append(now)
    for earlier, later in pairwise(starts):
        assert (later - earlier).total_seconds() / 60 >= policy.cooldown_minutes
    for start in starts:
        assert sum(start - PERIOD < other <= start for other in starts) <= policy.budget


def test_a_yes_says_what_was_asked():
    decision = decide(good(starts=(NOW - timedelta(hours=5),)), POLICY)
    assert decision.verdict == "start"
    assert decision.reasons == (
        "the policy is auto",
        "the last release that an alert started was 5.0 hours ago; a cool-down of 60.0 minutes is asked",
        "alerts started 1 of at most 3 releases in thirty days",
        "100 labelled events since 2024-05-29 12:00 that a candidate would learn from; 100 are asked",
        "0 releases of the use case run or are due to",
    )


def test_a_no_says_everything_that_stands_against_it():
    starts = tuple(NOW - timedelta(minutes=minutes) for minutes in (90, 4_000, 5_000))
    known = good(starts=starts, refusals=2, labels=7, running=1)
    decision = decide(known, POLICY.model_copy(update={"policy": "off"}))
    assert decision.verdict == "decline"
    assert decision.reasons == (
        "the policy is off",
        "the last release that an alert started was 90.0 minutes ago; a cool-down of 4.0 hours "
        "(60.0 minutes, doubled by each of 2 refusals in a row, at most 30 days) is asked",
        "alerts started 3 of at most 3 releases in thirty days",
        "7 labelled events since 2024-05-29 12:00 that a candidate would learn from; 100 are asked",
        "1 releases of the use case run or are due to",
    )


def test_the_same_policy_suggests_where_a_person_decides():
    assert decide(good(), POLICY.model_copy(update={"policy": "suggest"})).verdict == "suggest"


def record(action, cause="", minutes=0, subject="toy"):
    at = (NOW + timedelta(minutes=minutes)).isoformat()
    return {"action": action, "subject": subject, "at": at, "details": {"cause": cause}}


def test_the_audit_log_is_where_starts_and_refusals_are_counted():
    records = [
        record(STARTED, "a", 1),
        record(STARTED, "other", 1, subject="other"),
        record(DECLINED, "b", 2),
        record(REFUSED, "a", 3),
        record(REFUSED, "a", 4),  # the same release, run again after a crash
        record(REFUSED, "", 5),  # of the nightly release
        record(APPROVED, "c", 6),
        record(REFUSED, "c", 7),
    ]
    assert history(records, "toy") == ((NOW + timedelta(minutes=1), NOW + timedelta(minutes=6)), 2)
    assert history([*records, record("promote", "", 8)], "toy")[1] == 0
    assert history([], "toy") == ((), 0)


def test_one_alert_has_one_cause_however_its_moment_is_written():
    said = [
        Alert(name="Drift", started_at=at, fingerprint="f1")
        for at in ("2024-06-01T12:00:00.5Z", "2024-06-01T14:00:00.500000+02:00")
    ]
    assert {alert.cause("toy") for alert in said} == {"toy/f1/2024-06-01T12:00:00.500000+00:00"}
    later = said[0].model_copy(update={"started_at": NOW})
    assert later.cause("toy") != said[0].cause("toy") != said[0].cause("other")
