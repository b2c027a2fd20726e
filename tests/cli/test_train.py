"""`orrery train` against a small stand-in for Prefect's REST API: what it asks, shows, and how it ends."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.main import main
from orrery import settings as settings_module

RUN = "11111111-1111-1111-1111-111111111111"
DEPLOYMENT = "22222222-2222-2222-2222-222222222222"
METRICS = [{"metric": "ap", "candidate": 0.712, "candidate_low": 0.69, "candidate_high": 0.73}]
CHECKS = [{"check": "ap at least", "passed": "yes", "detail": "0.7120, at least 0.69 is asked"}]
FACTS = [{"use_case": "fraud", "version": "4", "run_id": "r", "verdict": "promoted"}]


class FakePrefect:
    """Answers what `cli.flow_runs` asks; a run passes through `states`, one a look, and stays at the last."""

    def __init__(self):
        self.states = [("SCHEDULED", "Scheduled", ""), ("RUNNING", "Running", ""), ("COMPLETED", "Promoted", "v 4")]
        self.asked, self.looks, self.failures, self.busy = [], 0, 0, 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(fake.get(self.path))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.answer(fake.post(self.path, body))

            def answer(self, found):
                status, body = found
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def get(self, path):
        if path == "/api/deployments/name/release/fraud":
            return 200, {"id": DEPLOYMENT}
        if path == f"/api/flow_runs/{RUN}":
            if self.failures:
                self.failures -= 1
                return 503, {}
            kind, name, message = self.states[min(self.looks, len(self.states) - 1)]
            self.looks += 1
            return 200, {"id": RUN, "state_type": kind, "state_name": name, "state": {"message": message}}
        return 404, {"detail": "not found"}

    def post(self, path, body):
        self.asked.append((path, body))
        if path == f"/api/deployments/{DEPLOYMENT}/create_flow_run":
            if self.busy:
                self.busy -= 1
                return 503, {}
            return 201, {"id": RUN, "state_type": "SCHEDULED", "state_name": "Scheduled"}
        if path == "/api/artifacts/filter":
            tables = {"fraud-metrics": METRICS, "fraud-checks": CHECKS, "fraud-facts": FACTS}
            progress = [{"description": "train: trial 2", "data": 40.0, "key": None}]
            wanted = body["artifacts"]["type"]["any_"]
            found = [{"key": key, "data": json.dumps(rows)} for key, rows in tables.items()]
            return 200, found if wanted == ["table"] else progress
        if path == "/api/task_runs/filter":
            return 200, [{"name": "prepare", "state_type": "COMPLETED"}, {"name": "train", "state_type": "RUNNING"}]
        if path == "/api/logs/filter":
            return 200, [{"id": "l", "message": "slow disk\nTraceback"}]
        return 404, {}


@pytest.fixture
def prefect(home, monkeypatch):
    fake = FakePrefect()
    monkeypatch.setattr("cli.flow_runs._LOOK_EVERY", 0.01)
    monkeypatch.setattr("cli.flow_runs.BUSY_WAITS", (0.01, 0.01))
    monkeypatch.setenv("ORRERY_PREFECT__PORT", str(fake.server.server_port))
    settings_module.settings.cache_clear()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def orrery(capsys, *arguments):
    """The exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_promoted_is_0(prefect, capsys):
    code, out, err = orrery(capsys, "train", "fraud", "--as-of", "2018-09-12", "--days", "77", "--trials", "3")
    assert code == 0
    assert "0.7120 [0.6900, 0.7300]" in out
    assert "ap at least" in out
    assert "promoted" in out
    assert "train: 40 % trial 2" in err
    assert "prepare: 100 %" in err
    assert err.count("slow disk") == 1
    assert "Traceback" not in err
    sent = prefect.asked[0][1]["parameters"]
    assert (sent["use_case"], sent["as_of"], sent["days"]) == ("fraud", "2018-09-12T00:00:00+00:00", 77)


def test_refused_is_3_with_its_reasons(prefect, capsys):
    prefect.states[-1] = ("COMPLETED", "Refused", "auc no worse than champion: 0.80 against 0.86")
    code, out, _ = orrery(capsys, "train", "fraud", "--json")
    found = json.loads(out)
    assert code == 3
    assert found["verdict"] == "refused"
    assert "0.80 against 0.86" in found["message"]
    assert found["metrics"] == METRICS
    assert found["checks"] == CHECKS


@pytest.mark.parametrize("state", ["FAILED", "CRASHED", "CANCELLED"])
def test_anything_else_is_1(prefect, capsys, state):
    prefect.states[-1] = (state, state.title(), "the disk is full")
    code, _, err = orrery(capsys, "train", "fraud")
    assert code == 1
    assert "the disk is full" in err


def test_a_short_silence_of_prefect_is_survived(prefect, capsys):
    prefect.failures = 2
    assert orrery(capsys, "train", "fraud")[0] == 0


def test_a_busy_prefect_is_asked_again_for_the_same_run(prefect, capsys):
    prefect.busy = 2
    assert orrery(capsys, "train", "fraud")[0] == 0
    keys = [body["idempotency_key"] for path, body in prefect.asked if path.endswith("create_flow_run")]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_prefect_that_stays_busy_is_said(prefect, capsys):
    prefect.busy = 9
    code, _, err = orrery(capsys, "train", "fraud")
    assert code == 1
    assert "answers 503" in err


def test_without_following_it_says_where_to_look(prefect, capsys):
    main_ended = orrery(capsys, "train", "fraud", "--no-follow", "--json")
    assert json.loads(main_ended[1])["url"].endswith(f"/runs/flow-run/{RUN}")
    assert prefect.looks == 0


def test_columns_and_path_of_a_file_are_passed_on(prefect, capsys, tmp_path):
    orrery(
        capsys, "train", "fraud", "--no-follow", "--source", "file", "--path", str(tmp_path / "a.csv"),
        "--column", "TX_AMOUNT=amount",
    )  # fmt: skip
    sent = prefect.asked[0][1]["parameters"]
    assert (sent["source"], sent["path"]) == ("file", str(tmp_path / "a.csv"))
    assert sent["columns"] == {"TX_AMOUNT": "amount"}


def test_a_bad_column_is_wrong_usage(prefect, capsys):
    assert orrery(capsys, "train", "fraud", "--column", "amount")[0] == 2


def test_an_unknown_deployment_says_so(prefect, capsys):
    code, _, err = orrery(capsys, "train", "nothing")
    assert code == 1
    assert "no deployment release/nothing" in err


def test_prefect_down_is_one_line(home, monkeypatch, capsys):
    monkeypatch.setenv("ORRERY_PREFECT__PORT", "9")
    settings_module.settings.cache_clear()
    code, _, err = orrery(capsys, "train", "fraud")
    assert code == 1
    assert err.strip().splitlines() == [
        "orrery: Prefect at http://127.0.0.1:9/api does not answer; start it with `orrery up`"
    ]
