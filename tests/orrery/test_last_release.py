"""What became of the last release, by the audit log."""

from orrery.last_release import last_releases
from orrery.retraining import DECLINED, REFUSED, STARTED

ALERT = {"name": "DriftSustained", "summary": "Amounts drift."}


def record(action, details, subject="a", actor="ada", at="2024-05-01T10:00:00+00:00"):
    return {"at": at, "actor": actor, "action": action, "subject": subject, "details": details}


def test_the_last_of_each_use_case_counts():
    found = last_releases(
        [
            record("promote", {"champion": "1"}),
            record(REFUSED, {"cause": "", "reasons": ["too slow"]}, subject="b"),
            record("rollback", {"champion": "0"}),
            record("key created", {"name": "x"}, subject="c"),
        ]
    )
    assert found.keys() == {"a", "b"}
    assert (found["a"].outcome, found["a"].version, found["a"].cause) == ("rolled back", "0", None)
    assert (found["b"].outcome, found["b"].version, found["b"].reasons) == ("refused", None, ("too slow",))


def test_an_alert_that_asked_for_it_is_named_with_the_reasons_of_the_policy():
    asked = {"cause": "k", "alert": ALERT, "reasons": ["1,200 labels"]}
    started = record(STARTED, asked)
    promoted = last_releases([started, record("promote", {"champion": "2", "cause": "k"})])["a"]
    assert (promoted.outcome, promoted.cause) == ("promoted", "DriftSustained: Amounts drift.")
    assert promoted.reasons == ("1,200 labels",)
    refused = last_releases([started, record(REFUSED, {"cause": "k", "reasons": ["ap"]})])["a"]
    assert (refused.cause, refused.reasons) == ("DriftSustained: Amounts drift.", ("ap",))
    unknown = last_releases([record("promote", {"champion": "2", "cause": "k"})])["a"]
    assert (unknown.cause, unknown.reasons) == ("k", ())


def test_what_was_declined_is_no_release():
    assert last_releases([record(DECLINED, {"cause": "k", "alert": ALERT, "reasons": ["too few labels"]})]) == {}
