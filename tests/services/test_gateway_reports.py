"""Reports at the gateway: for people with a key, the newest first, and nothing but what is on the list."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from running import eventually, gateway

from orrery.adapters.api_keys import ApiKeys
from orrery.adapters.database import open_database
from orrery.adapters.report_log import Kept, ReportLog

FIRST = datetime(2018, 8, 10, tzinfo=UTC)
PAGE = "/reports/fraud/20180810T000000Z/data-drift.html"
HTML = "<!doctype html><script>1</script>"


def kept(day=0, use_case="fraud", **changes) -> Kept:
    first = FIRST + timedelta(days=day)
    about = {
        "use_case": use_case, "first": first, "last": first + timedelta(days=1), "version": "3", "run_id": "r",
        "address": f"mlflow-artifacts:/run3/reports/{first:%Y%m%d}", "pages": ("data-drift.html",), "rows": 900,
        "labelled": False, "made_at": first + timedelta(days=2),
    }  # fmt: skip
    return Kept(**about | changes)


@pytest.fixture
def log(configured):
    engine = open_database(configured.log_url, durable=False)
    yield ReportLog(engine)
    engine.dispose()


@pytest.fixture
def reported(log, catalogue):
    """Three reports, one of which has its page."""
    for each in (kept(0), kept(2), kept(1, "imaging")):
        log.write(each)
    page = catalogue.folder / "run3" / "reports" / "20180810" / "data-drift.html"
    page.parent.mkdir(parents=True)
    page.write_text(HTML)
    (page.parent / "secret.html").write_text("not on the list")


@pytest.fixture
def asking(configured, reported, key):
    with gateway(configured, key) as client:
        yield client


def nobody(client, **others):
    return httpx.Client(base_url=client.base_url, trust_env=False, **others)


def test_the_newest_window_is_listed_first(asking):
    answer = asking.get("/reports")
    found = [(each["use_case"], each["first"][:10]) for each in answer.json()["reports"]]
    assert found == [("fraud", "2018-08-12"), ("imaging", "2018-08-11"), ("fraud", "2018-08-10")]
    assert answer.json()["reports"][2]["pages"] == {"data-drift": PAGE}


def test_a_browser_gets_a_page_with_links_and_no_script(asking):
    answer = asking.get("/reports", headers={"Accept": "text/html,*/*"})
    assert answer.headers["content-type"].startswith("text/html")
    assert f'href="{PAGE}"' in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_what_stands_in_the_list_is_escaped(asking, log):
    log.write(kept(5, version="<script>alert(1)</script>"))
    text = asking.get("/reports", headers={"Accept": "text/html"}).text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_without_reports_there_is_an_empty_list(standing):
    assert standing.get("/reports").json() == {"reports": []}
    assert "none yet" in standing.get("/reports", headers={"Accept": "text/html"}).text


def test_a_page_comes_in_a_sandbox(asking):
    answer = asking.get(PAGE)
    assert (answer.status_code, answer.text) == (200, HTML)
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"sandbox allow-scripts", "default-src 'none'", "form-action 'none'"} <= set(policy)
    assert "allow-same-origin" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-store"


def test_a_browser_is_asked_for_the_key_and_may_give_it_as_a_password(asking, key):
    for path in ("/reports", PAGE):
        with nobody(asking) as client:
            refused = client.get(path)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        with nobody(asking, auth=("anyone", key)) as client:
            assert client.get(path).status_code == 200
        with nobody(asking, auth=(key, "")) as client:
            assert client.get(path).status_code == 401


@pytest.mark.parametrize("header", ["Basic", "Basic !!", "Basic /w==", "Basic bm9jb2xvbg==", "Digest x", "Basic bm9w"])
def test_a_broken_login_is_refused(asking, header):
    with nobody(asking, headers={"Authorization": header}) as client:
        assert client.get("/reports").status_code == 401


def test_what_changes_something_takes_no_login_that_browsers_send_along(asking, key):
    with nobody(asking, auth=("anyone", key)) as client:
        answer = client.post("/v1/fraud/predict", json={})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_that_may_only_ask_for_predictions_reads_no_report(asking, configured):
    engine = open_database(configured.log_url, durable=False)
    other = ApiKeys(engine).create("client", ("predict:fraud",))[0]
    engine.dispose()
    for path in ("/reports", PAGE):
        eventually(lambda path=path: asking.get(path, headers={"X-API-Key": other}).status_code == 403, seconds=5)


@pytest.mark.parametrize(
    "path",
    [
        "/reports/fraud/20180810T000000Z/secret.html",
        "/reports/fraud/20180811T000000Z/data-drift.html",
        "/reports/imaging/20180810T000000Z/data-drift.html",
        "/reports/fraud/20180810T000000Z/..%2F..%2Fsecret.html",
        "/reports/fraud/..%2f20180810T000000Z/data-drift.html",
        "/reports/fraud/20180810T000000Z/data-drift.html%00",
        "/reports/%2e%2e/20180810T000000Z/data-drift.html",
        "/reports/fraud/' or 1=1/data-drift.html",
    ],
)
def test_what_is_not_on_the_list_is_not_there(asking, path):
    answer = asking.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_page_that_was_deleted_is_not_there(asking):
    answer = asking.get("/reports/fraud/20180812T000000Z/data-drift.html")
    assert (answer.status_code, answer.json()["title"]) == (404, "There is no such report")


def test_while_the_catalogue_is_away_the_list_goes_on_and_pages_say_so(asking, catalogue):
    catalogue.stop()
    assert len(asking.get("/reports").json()["reports"]) == 3
    answer = asking.get(PAGE)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["title"] == "Reports cannot be read now"


def test_a_page_elsewhere_than_behind_the_proxy_is_not_fetched(asking, log):
    log.write(kept(0, address="file:///etc"))
    answer = asking.get(PAGE)
    assert (answer.status_code, answer.json()["title"]) == (503, "Reports cannot be read now")
