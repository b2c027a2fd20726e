"""Reports on served windows: which is due, made once and once more with its labels, found after a kill, and pruned."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from prefect_runs import running_prefect
from sqlalchemy import insert
from toy.toy_case import CASE

from orrery import reporting
from orrery.adapters.database import open_database
from orrery.adapters.evidently_reports import Written
from orrery.adapters.prediction_log import labels, metadata, predictions
from orrery.adapters.registry import Record, Registry
from orrery.adapters.report_log import ReportLog
from orrery.adapters.run_files import RunFiles
from orrery.adapters.watch_log import WatchLog
from orrery.bundle import MANIFEST, Bundle
from orrery.moments import micros
from orrery.reference import Rows
from orrery.settings import PrefectSettings
from orrery.watching import Impressions, Quality, Watched, Watching

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOY = replace(CASE, training=replace(CASE.training, watching=Watching(rows=20, probability=True)))
ROWS = 40


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


class Platform:
    """A catalogue with one version that knows its reference, and a log that tests write days into."""

    def __init__(self, configured, bundle):
        self.configured = configured.model_copy(update={"watch": configured.watch.model_copy(update={"reports": 3})})
        draw = np.random.default_rng(0)
        Rows(draw.normal(size=(50, 1)), draw.random(50), draw.integers(0, 2, 50)).keep(bundle.folder)
        (bundle.folder / MANIFEST).unlink()
        about = bundle.manifest.model_dump(mode="json", exclude={"files"})
        self.bundle = Bundle.write(bundle.folder, about)
        self.run_id = Registry(configured).log_run(Record("toy", "toy", {}, {}, {}, self.bundle))
        self.engine = open_database(configured.log_url, durable=False)
        metadata.create_all(self.engine)
        self.log = ReportLog(self.engine)

    def day(self, number, maturity=0.0, state="stable"):
        """A judged day of answers; of its labels so large a share has arrived."""
        first = START + number * DAY
        with self.engine.begin() as connection:
            for table in (predictions, labels):
                connection.execute(table.delete().where(table.c.identity.like(f"{number}-%")))
            for place in range(ROWS):
                at = micros(first + place * timedelta(minutes=1))
                sequence = number * ROWS + place + 1
                about = {"use_case": "toy", "identity": f"{number}-{place}", "recorded_at": 0, "sequence": sequence}
                connection.execute(insert(predictions).values(**about, **self._answer(at, place)))
                if place < maturity * ROWS:
                    told = {"subject": "", "label": float(place % 2), "arrived_at": at, "feedback": "{}"}
                    connection.execute(insert(labels).values(**about, **told))
        quality = Quality(round(maturity * ROWS), maturity, None)
        found = Watched("toy", first, first + DAY, "1", state, ROWS, 0, quality=quality)
        WatchLog(self.engine).write(found, NOW)

    def _answer(self, at, place):
        return {
            "prediction_id": f"{at}-{place}", "event_time": at, "model_version": "1", "run_id": self.run_id,
            "digest": self.bundle.digest, "data_version": "v", "git_commit": "c", "variant": "champion",
            "degraded": False, "degraded_reason": None, "rules_version": "1", "score": (place % 9 + 1) / 10,
            "request": "{}", "features": json.dumps({"x": place / 7}), "sources": "{}", "outputs": "{}", "answer": "{}",
        }  # fmt: skip

    def make(self, case=TOY):
        return reporting.make(case, self.engine, self.configured, NOW)

    def pages(self, number):
        place = f"reports/{START + number * DAY:%Y%m%dT%H%M%SZ}"
        found = Registry(self.configured)._client.list_artifacts(self.run_id, place)
        return {file.path.rpartition("/")[2] for file in found}

    def workspace(self):
        """The runs that Evidently's own pages show."""
        from evidently.ui.workspace import Workspace

        found = Workspace.create(str(self.configured.home / "evidently"))
        [project] = found.search_project("toy")
        return [found.get_run(project.id, run) for run in found.list_runs(project.id)]

    def listed(self):
        return [((each.first - START) // DAY, each.labelled) for each in self.log.newest("toy")]


@pytest.fixture
def platform(catalogue, make_bundle):
    made = Platform(catalogue, make_bundle())
    yield made
    made.engine.dispose()


@pytest.fixture
def quick(monkeypatch):
    """Pages without Evidently, whose own are tested with its adapter."""

    def write(asked, folder, most):
        (folder / "data-drift.html").write_text(f"{len(asked.window.scores)} beside {len(asked.reference.scores)}")
        return Written([folder / "data-drift.html"])

    monkeypatch.setattr("orrery.adapters.evidently_reports.write_reports", write)


@pytest.mark.slow
def test_the_pages_lie_beside_the_run_that_answered(platform):
    platform.day(0, maturity=1)
    made = platform.make()
    assert made.pages == ("data-drift.html", "data-summary.html", "classification.html")
    assert platform.pages(0) == set(made.pages)
    assert (made.version, made.rows, made.labelled, made.window) == ("1", ROWS, True, "20240101T000000Z")
    assert made.address.endswith("/reports/20240101T000000Z")
    assert platform.log.newest() == [made]

    assert {run.name for run in platform.workspace()} == {f"{made.window} {Path(page).stem}" for page in made.pages}
    assert {run.timestamp for run in platform.workspace()} == {START}
    ReportLog(platform.engine).forget(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", mock.Mock(side_effect=Killed))  # what is written is not moved
        with pytest.raises(Killed):
            platform.make()
    assert len(platform.workspace()) == 0, "the old ones are gone, and no half of a new one is there"
    platform.make()
    assert len(platform.workspace()) == len(made.pages), "made again, they are there once"
    none = platform.configured.watch.model_copy(update={"reports": 0})
    platform.configured = platform.configured.model_copy(update={"watch": none})
    assert platform.make() is None
    assert not platform.workspace()


def listed_two_by_two(answers, feedback):
    """Answers as lists of two items, and so much feedback as took the first of its list."""
    rows = np.arange(2 * len(answers))
    return Impressions(rows // 2, rows % 7, rows % 2 + 1, (rows % 2 == 0) & (rows // 2 < len(feedback)))


@pytest.mark.slow
def test_answers_that_are_lists_have_a_page_of_their_own(platform):
    folders = []
    watching = Watching(
        rows=20,
        impressions=listed_two_by_two,
        popularity=lambda folder: (folders.append((folder / MANIFEST).is_file()), (np.arange(9), np.ones(9)))[1],
    )
    lists = replace(CASE, training=replace(CASE.training, watching=watching))
    platform.day(0)
    assert platform.make(lists).pages == ("data-drift.html", "data-summary.html"), "nothing was taken"
    platform.day(0, maturity=1)
    made = platform.make(lists)
    assert made.pages == ("data-drift.html", "data-summary.html", "ranking.html")
    assert platform.pages(0) == set(made.pages)
    assert platform.log.newest() == [made]
    assert f"{made.window} ranking" in {run.name for run in platform.workspace()}
    assert folders == [True, True], "of the bundle that answered"


@pytest.mark.slow
def test_the_newest_comes_first_and_again_when_its_labels_have_arrived(platform, quick):
    assert platform.make() is None
    for number in range(3):
        platform.day(number)
    while platform.make():
        pass
    assert platform.listed() == [(2, False), (1, False), (0, False)]
    platform.day(1, maturity=0.95)
    assert platform.make().first == START + DAY
    assert platform.make() is None
    assert platform.listed() == [(2, False), (1, True), (0, False)]


@pytest.mark.slow
def test_windows_that_say_nothing_have_no_report(platform, quick):
    platform.day(0, state="few rows")
    platform.day(1, state="no data")
    assert platform.make() is None


@pytest.mark.slow
def test_only_so_many_are_kept_and_the_old_ones_are_not_made_again(platform, quick):
    for number in range(5):
        platform.day(number)
        platform.make()
    assert platform.listed() == [(4, False), (3, False), (2, False)]
    assert [bool(platform.pages(number)) for number in range(5)] == [False, False, True, True, True]
    assert platform.make() is None
    none = platform.configured.watch.model_copy(update={"reports": 0})
    platform.configured = platform.configured.model_copy(update={"watch": none})
    assert platform.make() is None
    assert platform.listed() == []


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("target", "name"), [(RunFiles, "add"), (ReportLog, "write"), (RunFiles, "remove"),
                                              (ReportLog, "forget")])  # fmt: skip
def test_killed_at_any_point_and_run_again_it_is_there_once(platform, quick, target, name, when):
    for number in range(3):
        platform.day(number)
        platform.make()
    platform.day(3)
    real = getattr(target, name)

    def dies(*arguments):
        if when == "after":
            real(*arguments)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, dies)
        with pytest.raises(Killed):
            platform.make()
    platform.make()
    assert platform.listed() == [(3, False), (2, False), (1, False)]
    assert [bool(platform.pages(number)) for number in range(4)] == [False, True, True, True]


@pytest.mark.slow
def test_a_bundle_without_a_reference_is_reported_without_drift(platform, make_bundle):
    platform.bundle = make_bundle()
    platform.run_id = Registry(platform.configured).log_run(Record("toy", "toy", {}, {}, {}, platform.bundle))
    platform.day(0)
    assert platform.make().pages == ("data-summary.html",)


@pytest.mark.slow
def test_a_report_is_asked_for_once_an_hour_and_one_at_a_time(platform, quick):
    with running_prefect("report/toy") as prefect:
        configured = platform.configured.model_copy(update={"prefect": PrefectSettings(url=f"{prefect.url}")})

        def ask(minutes=0):
            return reporting.ask("toy", platform.engine, configured, NOW + timedelta(minutes=minutes))

        assert ask() is None
        platform.day(0)
        prefect.going_on = 1
        assert ask() is None
        prefect.going_on = 0
        assert (ask().fresh, ask(59).fresh, ask(60).fresh) == (True, False, True)
        platform.make()
        assert ask(120) is None
        platform.day(0, maturity=1)
        assert ask(60).fresh, "the same window, with its labels"
        assert {run["parameters"]["use_case"] for run in prefect.made("report/toy")} == {"toy"}
