"""What a client gets: a typed answer, once, recorded, explained."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import eventually, gateway

import usecases
from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import LogReader

EXAMPLE = usecases.serving("fraud").example.model_dump(mode="json")
LABEL = usecases.serving("fraud").example_feedback.model_dump(mode="json")


def ask(client, **changes):
    return client.post("/v1/fraud/predict", json=EXAMPLE | changes)


def rows(settings):
    engine = open_database(settings.log_url, durable=False)
    found = LogReader(engine).since("fraud")
    engine.dispose()
    return found


def test_an_answer_says_all_of_itself(served):
    answer = ask(served, amount=900.0).json()
    assert answer["transaction_id"] == EXAMPLE["transaction_id"]
    assert answer["model_version"] == "1"
    assert not answer["degraded"]
    assert answer["decision"] in ("approve", "review", "decline")
    assert 0 <= answer["score"] <= 1
    assert answer["score"] == round(answer["score"], 4)
    assert answer["thresholds"]["review"] <= answer["thresholds"]["decline"]
    assert 1 <= len(answer["reasons"]) <= 4
    assert all(
        reason["code"].isupper() and reason["words"] and reason["contribution"] > 0 for reason in answer["reasons"]
    )


def test_unknown_entities_have_typed_defaults_and_say_so(served):
    answer = ask(served, customer_id=4_000_000, terminal_id=5_000_000).json()
    assert answer["feature_status"] == {"customer_history": "missing", "terminal_history": "missing"}
    assert not answer["degraded"]
    assert answer["score"] is not None


def test_what_was_served_is_known_to_the_next(served):
    ask(served)
    answer = ask(served, transaction_id=2).json()
    assert answer["feature_status"] == {"customer_history": "present", "terminal_history": "present"}
    features = served.get(f"/v1/predictions/{answer['prediction_id']}").json()["features"]
    assert features["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == 2


def test_a_label_is_known_seven_days_later(served):
    ask(served)
    told = served.post("/v1/fraud/feedback", json=LABEL | {"fraud": True}).json()
    assert told["repeated"] is False
    later = ask(served, transaction_id=2, tx_datetime="2018-10-08T10:00:00Z").json()
    features = served.get(f"/v1/predictions/{later['prediction_id']}").json()["features"]
    assert features["TERMINAL_ID_RISK_30DAY_WINDOW"] == 1


def test_the_same_event_has_one_answer_and_one_row(served, configured):
    first, second, other = ask(served), ask(served), ask(served, amount=1.0)
    assert first.content == second.content == other.content
    assert len(rows(configured)) == 1


def test_even_at_once(served, configured):
    barrier = threading.Barrier(8)

    def one(_):
        barrier.wait()
        return ask(served).content

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(8)))) == 1
    assert len(rows(configured)) == 1


def test_lineage_tells_everything(served, bundles):
    answer = ask(served).json()
    served.post("/v1/fraud/feedback", json=LABEL)
    found = served.get(f"/v1/predictions/{answer['prediction_id']}").json()
    assert found["answer"] == answer
    assert found["request"] == EXAMPLE
    assert set(found["features"]) == set(usecases.serving("fraud").feature_names)
    assert found["features"]["TX_AMOUNT"] == pytest.approx(EXAMPLE["amount"], rel=1e-6)
    assert found["sources"]["customer_history"]["status"] == "missing"
    assert found["model"] == {
        "version": "1", "run_id": "run1", "digest": bundles[0].digest, "data_version": "small", "git_commit": "none",
    }  # fmt: skip
    assert found["label"] == {"value": 0.0, "arrived_at": "2018-10-08T09:30:00+00:00"}


def test_lineage_tells_how_old_the_features_were(served):
    ask(served)
    second = ask(served, transaction_id=2, tx_datetime="2018-10-01T10:30:00Z").json()
    sources = served.get(f"/v1/predictions/{second['prediction_id']}").json()["sources"]
    assert sources["customer_history"]["age_seconds"] == 3_600


def test_a_label_for_an_unknown_event_needs_to_say_more(served):
    unknown = served.post("/v1/fraud/feedback", json=LABEL)
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    more = LABEL | {"terminal_id": 9, "tx_datetime": EXAMPLE["tx_datetime"], "fraud": True}
    assert served.post("/v1/fraud/feedback", json=more).json()["prediction_id"] is None
    answer = ask(served, transaction_id=2, terminal_id=9, tx_datetime="2018-10-09T10:00:00Z").json()
    features = served.get(f"/v1/predictions/{answer['prediction_id']}").json()["features"]
    assert features["TERMINAL_ID_RISK_7DAY_WINDOW"] == 1


def test_the_same_label_twice_counts_once(served):
    ask(served)
    repeated = [served.post("/v1/fraud/feedback", json=LABEL).json()["repeated"] for _ in range(2)]
    assert repeated == [False, True]


def test_a_label_older_than_its_event_is_refused(served):
    ask(served)
    told = served.post("/v1/fraud/feedback", json=LABEL | {"arrived_at": "2018-09-01T00:00:00Z"})
    assert told.status_code == 422
    assert told.json()["errors"][0]["field"] == "arrived_at"


def test_models_and_metrics_say_what_answers(served):
    ask(served)
    model = served.get("/v1/models").json()["models"][0]
    assert (model["version"], model["source"], model["data_version"]) == ("1", "registry", "small")
    text = served.get("/metrics").text
    assert 'gateway_predictions_total{outcome="ok",use_case="fraud",variant="champion",version="1"} 1.0' in text
    assert re.search(r'\nmodel_serving_info\{[^}]*digest="', text)
    assert 'registry_alias_info{alias="champion",use_case="fraud",version="1"} 1.0' in text
    assert 'registry_alias_gate_passed{alias="champion",use_case="fraud"} 1.0' in text
    for stage in ("auth", "features", "inference", "post", "log"):
        assert f'gateway_stage_duration_seconds_count{{stage="{stage}",use_case="fraud"}} 1.0' in text
    assert 'prediction_score_count{use_case="fraud"} 1.0' in text
    for edge in ("0.05", "0.25"):
        assert f'gateway_prediction_duration_seconds_bucket{{le="{edge}"' in text
    assert 'gateway_deadline_seconds{use_case="fraud"} 0.15' in text


def test_documentation_is_typed_and_has_examples(bare):
    document = bare.get("/openapi.json").json()
    post = document["paths"]["/v1/fraud/predict"]["post"]
    body = post["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/FraudRequest"}
    assert body["example"] == EXAMPLE
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/FraudAnswer"}
    assert "application/problem+json" in post["responses"]["422"]["content"]
    assert bare.get("/docs").status_code == 200


def test_rules_decide_beside_the_model(configured, key, served):
    rules = configured.home / "rules" / "fraud.json"
    rules.parent.mkdir()
    rules.write_text(
        '{"version": "2", "blocked_customers": {"ids": [7], "outcome": "decline"},'
        ' "blocked_terminals": {"ids": [], "outcome": "decline"}, "amount_cap": {"most": 100, "outcome": "review"}}'
    )
    eventually(lambda: served.get("/v1/models").json()["models"][0]["rules_version"] == "2")
    blocked = ask(served, customer_id=7, amount=500.0).json()
    assert blocked["decision"] == "decline"
    assert [(hit["rule"], hit["outcome"]) for hit in blocked["rules"]] == [
        ("blocked_customers", "decline"),
        ("amount_cap", "review"),
    ]
    assert served.get(f"/v1/predictions/{blocked['prediction_id']}").json()["rules_version"] == "2"
    rules.write_text('{"version": "3"}')
    eventually(lambda: 'gateway_dependency_errors_total{dep="rules",kind="refused"} 1.0' in served.get("/metrics").text)
    assert served.get("/v1/models").json()["models"][0]["rules_version"] == "2"


def test_without_a_model_rules_answer(bare, configured):
    answer = ask(bare).json()
    assert (answer["decision"], answer["degraded"], answer["score"]) == ("review", True, None)
    assert answer["model_version"] is None
    assert answer["degraded_reason"] == "no model is loaded"
    text = bare.get("/metrics").text
    assert 'gateway_predictions_total{outcome="fallback",use_case="fraud",variant="fallback",version=""} 1.0' in text
    assert bare.get("/readyz").status_code == 200
    assert len(rows(configured)) == 1


def test_a_gateway_remembers_what_the_one_before_it_served(configured, key):
    with gateway(configured, key) as client:
        first = ask(client).json()
    with gateway(configured, key) as client:
        assert ask(client).json() == first
        assert ask(client, transaction_id=2).json()["feature_status"]["customer_history"] == "present"


def test_the_documentation_page_loads_nothing_from_elsewhere(bare):
    page = bare.get("/docs")
    assert page.status_code == 200
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert linked
    assert all(bare.get(path).status_code == 200 for path in linked)
