"""`orrery experiment analyze` on windows of the prediction log, as the log's own writer left them."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

import usecases
from cli.main import main
from orrery.adapters.database import open_database
from orrery.adapters.log_spool import open_log
from orrery.adapters.log_writer import LogWriter
from orrery.adapters.prediction_log import LabelRecord, PredictionRecord
from orrery.moments import micros

NAME = usecases.names()[0]
DAY = ("--from", "2018-09-12", "--to", "2018-09-13")
VARIANTS = ("champion", "challenger")


def prediction(number, variant, user=None, moment=datetime(2018, 9, 12, 8, tzinfo=UTC), score=None, **answer):
    """Event `number` of a user of its own; the challenger's scores are 0.5 higher."""
    degraded = variant == "fallback"
    said = {"degraded": degraded, "score": None, "decision": "approve", "novelty": None} | answer
    given = None if degraded else number % 7 + (0.5 if variant == "challenger" else 0.0)
    return PredictionRecord(
        prediction_id=f"{number}", use_case=NAME, identity=f"{number}", event_time=micros(moment), recorded_at=1,
        model_version=None if degraded else "1", run_id=None, digest=None, data_version=None, git_commit=None,
        variant=variant, degraded=degraded, degraded_reason="no_model" if degraded else None, rules_version="1",
        score=given if score is None else score, features=None, sources="{}", outputs=None, answer=json.dumps(said),
        request=json.dumps({"user_id": number if user is None else user, "amount": number % 7, "tags": [1]}),
    )  # fmt: skip


def label(number, value):
    return LabelRecord(NAME, f"{number}", value, arrived_at=micros(datetime(2018, 9, 20, tzinfo=UTC)), recorded_at=2,
                       feedback="{}")  # fmt: skip


@pytest.fixture
def logged(settings):
    """Writes records to the log, in their order."""
    engine = open_database(settings.log_url, durable=False)
    settings.home.mkdir(parents=True, exist_ok=True)
    writer = LogWriter(open_log(engine, settings.home / "spool.db"))
    writer.start()

    def write(*records):
        for receipt in [writer.submit(record) for record in records]:
            receipt.result(10)

    yield write
    writer.close()
    engine.dispose()


@pytest.fixture
def halves(logged):
    """Events 0 to 199, in turn of the champion and of the challenger."""
    logged(*(prediction(number, VARIANTS[number % 2]) for number in range(200)))
    return logged


def ended(capfd, *words):
    with pytest.raises(SystemExit) as stopped:
        main(["experiment", "analyze", *map(str, words)])
    return stopped.value.code, capfd.readouterr()


def asked(capfd, *words, code=0, metric="score", window=DAY):
    found, shown = ended(capfd, "--use-case", NAME, *window, "--metric", metric, "--json", *words)
    assert found == code, shown.err
    return json.loads(shown.out)


def refused(capfd, *words, metric="score", window=("--use-case", NAME, *DAY)):
    found, shown = ended(capfd, *window, "--metric", metric, *words)
    assert (found, shown.out) == (1, "")
    (line,) = shown.err.splitlines()
    return line


def test_a_window_is_one_row_a_prediction(halves, capfd):
    halves(prediction(200, "champion", moment=datetime(2018, 9, 13, tzinfo=UTC)))
    halves(prediction(201, "champion", moment=datetime(2018, 9, 11, 23, 59, tzinfo=UTC)))
    found = asked(capfd, "--control", "champion")
    assert found["split"]["rows"] == {"challenger": 100, "champion": 100}, "the last two are of other days"
    (one,) = found["comparisons"]
    expected = [sum(number % 7 for number in range(first, 200, 2)) / 100 for first in (0, 1)]
    assert (one["control_mean"], one["variant_mean"]) == (pytest.approx(expected[0]), pytest.approx(expected[1] + 0.5))
    window = {"use_case": NAME, "first": "2018-09-12T00:00:00Z", "last": "2018-09-13T00:00:00Z", "unit": ""}
    assert (found["file"], found["window"], found["left_out"]) == (None, window, {})


def test_a_window_is_read_to_its_end(logged, capfd):
    logged(*(prediction(number, VARIANTS[number % 2]) for number in range(2_050)))
    assert asked(capfd)["split"]["rows"] == {"challenger": 1_025, "champion": 1_025}, "more than come at once"


def test_labels_count_once_they_arrived(halves, capfd):
    """Of each hundred 30 and 60 have a label of 1; the last 20 have none, and what that means has to be said."""
    halves(*(label(number, float(number // 2 < 30 * (1 + number % 2))) for number in range(180)))
    halves(label(0, 0.0), label(0, 1.0))
    line = refused(capfd, metric="label")
    assert "label is missing in 20 of 200 predictions, the first is 180; --missing zero or --missing leave-out" in line
    (one,) = asked(capfd, "--missing", "zero", "--control", "champion", metric="label")["comparisons"]
    assert (one["control_mean"], one["variant_mean"]) == (0.3, 0.6)
    assert one["outcome"]["method"] == "two-proportion z"
    found = asked(capfd, "--missing", "leave-out", "--control", "champion", metric="label")
    assert (found["left_out"], found["split"]["rows"]["champion"]) == ({"without a value": 20}, 90)
    assert found["comparisons"][0]["control_mean"] == pytest.approx(30 / 90)


def test_labels_that_come_for_one_variant_only_are_a_mismatch(halves, capfd):
    halves(*(label(number, float(number % 3 == 0)) for number in range(200) if number % 2 or number < 60))
    found = asked(capfd, "--missing", "leave-out", metric="label", code=3)
    assert found["split"]["rows"] == {"challenger": 100, "champion": 30}
    assert found["comparisons"] == []


def test_a_unit_counts_once_with_the_mean_of_its_predictions(logged, capfd):
    """Users 0 to 39 asked five times each; the mean of user u is that of 5 u, ..., 5 u + 4, each modulo 7."""
    logged(*(prediction(number, VARIANTS[number // 5 % 2], user=number // 5) for number in range(200)))
    found = asked(capfd, "--unit", "user_id", "--control", "champion")
    assert found["split"]["rows"] == {"challenger": 20, "champion": 20}
    means = [sum(number % 7 for number in range(5 * user, 5 * user + 5)) / 5 for user in range(0, 40, 2)]
    assert found["comparisons"][0]["control_mean"] == pytest.approx(sum(means) / 20)


def test_units_count_alike_however_often_they_asked(logged, capfd):
    rows = [prediction(number, "champion", user=number, score=1.0 + number % 2) for number in range(30)]
    rows += [prediction(100 + number, "champion", user=0, score=1.0) for number in range(50)]
    rows += [prediction(200 + number, "challenger", user=100 + number, score=number % 3) for number in range(30)]
    logged(*rows)
    found = asked(capfd, "--unit", "user_id", "--control", "champion")
    assert found["comparisons"][0]["control_mean"] == pytest.approx(1.5), "80 predictions would have 1.19"


def test_an_assignment_that_is_not_sticky_is_refused(logged, capfd):
    logged(
        *(prediction(number, VARIANTS[number % 2], user=number // 2 if number < 6 else number) for number in range(60))
    )
    line = refused(capfd, "--unit", "user_id")
    assert "user_id 0 saw challenger and champion, one of 3 units with more than one variant: the assignment" in line
    assert asked(capfd)["split"]["rows"] == {"challenger": 30, "champion": 30}, "predictions still can be compared"


def test_answers_without_a_model_are_of_the_variant_that_their_unit_saw(halves, capfd):
    """Ten champions' users also met a fallback, the challenger's never did; two users met nothing else."""
    halves(*(prediction(300 + number, "fallback", user=2 * number) for number in range(10)))
    halves(*(prediction(400 + number, "fallback", user=1000 + number) for number in range(2)))
    by_prediction = asked(capfd)
    assert by_prediction["split"]["rows"] == {"challenger": 100, "champion": 100}
    assert by_prediction["left_out"] == {"without a variant": 12}
    by_unit = asked(capfd, "--unit", "user_id", "--control", "champion", metric="degraded")
    assert by_unit["left_out"] == {"without a variant": 2}
    (one,) = by_unit["comparisons"]
    assert (one["control_mean"], one["variant_mean"]) == (pytest.approx(0.05), 0.0)


def test_numbers_of_the_answer_are_metrics_and_those_of_the_request_covariates(logged, capfd):
    logged(*(prediction(n, VARIANTS[n % 2], items=3 + n % 4 // 2, open=n % 4 < 2) for n in range(200)))
    found = asked(capfd, "--metric", "open", "--metric", "items", "--covariate", "amount", metric="score")
    score, opened, items = found["comparisons"]
    assert score["cuped"]["theta"] == pytest.approx(1, abs=0.05), "the score is the amount, and the challenger's 0.5"
    assert score["cuped"]["reduction"] > 0.9
    assert (opened["control_mean"], items["control_mean"]) == (0.5, 3.5)


def test_a_person_reads_what_was_left_out(halves, capfd):
    halves(prediction(300, "fallback"))
    code, shown = ended(capfd, "--use-case", NAME, *DAY, "--metric", "score")
    assert code == 0
    assert "without a variant 1" in shown.out
    assert "comparisons show a difference" in shown.out


@pytest.mark.parametrize(
    ("metric", "words", "says"),
    [
        ("scroe", (), "the answer to 0 has no field scroe; the nearest is score"),
        ("decision", (), "decision is not numeric: the answer to 0 has 'approve'"),
        ("novelty", (), "novelty is missing in 200 of 200 predictions, the first is 0"),
        ("novelty", ("--missing", "leave-out"), "the only variant is none"),
        ("novelty", ("--missing", "zero"), "novelty is constant, 0"),
        ("score", ("--unit", "user"), "the request 0 has no field user; the nearest is user_id"),
        ("score", ("--unit", "tags"), "tags of the request 0 names no unit: '[1]'"),
        ("score", ("--covariate", "amuont"), "the request 0 has no field amuont; the nearest is amount"),
        ("score", ("--covariate", "tags"), "tags is not numeric: the request 0 has '[1]'"),
        ("score", ("--variant", "variant"), "leave --variant out"),
    ],
)
def test_fields_that_are_of_no_use_are_refused(halves, capfd, metric, words, says):
    assert says in refused(capfd, *words, metric=metric)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "there is nothing to read; give a FILE, or --use-case with --from and --to"),
        (("units.csv", "--use-case", NAME, *DAY), "read the log; leave them out, or leave FILE out"),
        (("units.csv", "--unit", "user_id"), "read the log; leave them out, or leave FILE out"),
        (("units.csv", *DAY), "read the log; leave them out, or leave FILE out"),
        (("--use-case", NAME), "--use-case needs --from and --to"),
        (("--use-case", NAME, *DAY[:2]), "--use-case needs --from and --to"),
        (("--use-case", "nobody", *DAY), "there is no use case 'nobody'"),
        (DAY, "give a FILE, or --use-case"),
    ],
)
def test_rows_come_from_a_file_or_from_the_log(logged, capfd, words, says):
    assert says in refused(capfd, window=words)


def test_an_empty_window_is_refused(halves, capfd):
    window = ("--use-case", NAME, "--from", "2018-09-14", "--to", "2018-09-15T12:00:00")
    line = refused(capfd, window=window)
    assert f"{NAME} has no prediction from 2018-09-14 00:00 to 2018-09-15 12:00" in line


def test_a_log_that_is_not_there_is_one_line(settings, capfd):
    assert "the prediction log cannot be read" in refused(capfd)


def test_answers_come_with_all_feedback_to_them(halves, monkeypatch, capfd):
    """What a use case makes of a window is what is evaluated."""
    halves(prediction(200, "champion", moment=datetime(2018, 9, 13, tzinfo=UTC)))
    told = usecases.serving(NAME).example_feedback
    named = next(name for name, value in told if str(value) == usecases.serving(NAME).identity(told))
    for number in (0, 1, 200, 300):  # the last two are of another day and of nobody
        said = told.model_copy(update={named: number}).model_dump_json()
        halves(replace(label(number, 1.0), feedback=said))
    given = []

    def policies(answers, feedback, target):
        given.append((len(answers), len(feedback), target))
        columns = {"reward": np.tile([0.0, 1.0], 500), "propensity": np.full(1_000, 0.5), "target": np.full(1_000, 0.5)}
        return columns | {"cluster": np.arange(1_000)}

    training = replace(usecases.training(NAME), off_policy=policies)
    monkeypatch.setattr(usecases, "training", lambda name: training)
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "off-policy", "--use-case", NAME, *DAY, "--target", "greedy", "--json"])
    assert ended.value.code == 0
    found = json.loads(capfd.readouterr().out)
    assert found["on_policy"]["value"] == 0.5
    [(answers, feedback, target)] = given
    assert (answers, feedback, target) == (200, 2, "greedy")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--target", "greedy", "--reward", "clicked"), "the log itself has its columns; leave --reward out"),
        (("--target", "greedy"), "leaves nothing to chance"),
    ],
)
def test_a_log_is_asked_for_a_policy_by_its_name(logged, capfd, words, says):
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "off-policy", "--use-case", NAME, *DAY, *words])
    assert ended.value.code == 1
    assert says in capfd.readouterr().err
