"""The real Feast, on a store of its own: declared once, read point in time, materialized beside a learning gateway."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64

from orrery.adapters.feature_store import FeaturesMissing, FeatureStore, FutureDate, TableRefused, offline_folder
from orrery.adapters.online_store import open_online_store
from orrery.usecase import Key, Update

JULY = datetime(2018, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BOTH = pytest.mark.parametrize("kind", ["sqlite", "redis"], indirect=True)


def declarations():
    person = Entity(name="person", join_keys=["PERSON"], value_type=ValueType.INT64)
    visit = Entity(name="visit", join_keys=["VISIT"], value_type=ValueType.INT64)
    visits = FeatureView(
        name="visits",
        entities=[person],
        schema=[Field(name="PERSON", dtype=Int64), Field(name="times", dtype=Array(Int64))],
        source=FileSource(name="visits", path="visits.parquet", timestamp_field="event_timestamp"),
        online=True,
    )
    facts = FeatureView(
        name="facts",
        entities=[visit],
        schema=[
            Field(name="VISIT", dtype=Int64),
            Field(name="AMOUNT", dtype=Float32),
            Field(name="SEEN", dtype=Float32),
        ],
        source=FileSource(name="facts", path="facts.parquet", timestamp_field="event_timestamp"),
        online=False,
    )
    return [person, visit, visits, facts, FeatureService(name="shop", features=[facts])]


def moments(*values):
    return pd.Series(list(values), dtype="datetime64[us, UTC]")


def visits(moment, **people):
    return pd.DataFrame(
        {
            "PERSON": [int(name[1:]) for name in people],
            "event_timestamp": moments(*[moment] * len(people)),
            "times": pd.Series([np.array(times, dtype=np.int64) for times in people.values()], dtype=object),
        }
    )


@pytest.fixture
def store(as_worker):
    store = FeatureStore(as_worker)
    store.apply(declarations())
    return store


@pytest.fixture
def online(as_gateway, store):
    online = open_online_store(as_gateway)
    yield online
    online.close()


def times(online, person):
    return online.read([Key("visits", person)])[Key("visits", person)].values["times"].tolist()


def teach(person, values, moment):
    return lambda _: [Update(Key("visits", person), {"times": np.array(values, dtype=np.int64)}, moment)]


def facts():
    return pd.DataFrame(
        {
            "VISIT": [1, 1, 2, 3],
            "event_timestamp": moments(JULY, JULY + 2 * DAY, JULY, JULY + DAY),
            "AMOUNT": np.array([1.0, 1.5, 2.0, 3.0], dtype=np.float32),
            "SEEN": np.array([0.0, 1.0, 0.0, 0.0], dtype=np.float32),
        }
    )


def test_rows_get_what_was_known_at_their_own_moment_and_keep_order_index_and_other_columns(store):
    store.write_offline({"facts": facts()})
    rows = pd.DataFrame(
        {
            "VISIT": [3, 1, 2, 1],
            "WHEN": moments(JULY + DAY, JULY + 2 * DAY - timedelta(microseconds=1), JULY + DAY, JULY + 2 * DAY).array,
            "LABEL": [0, 1, 0, 1],
            "AMOUNT": [9.0, 9.0, 9.0, 9.0],
        },
        index=[10, 11, 12, 13],
    )
    out = store.training_rows("shop", rows)
    assert out.index.tolist() == [10, 11, 12, 13]
    assert out.columns.tolist() == ["VISIT", "WHEN", "LABEL", "AMOUNT", "SEEN"]
    assert out["AMOUNT"].tolist() == [3.0, 1.0, 2.0, 1.5]
    assert out["SEEN"].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert out["AMOUNT"].dtype == np.float32
    assert out["LABEL"].tolist() == rows["LABEL"].tolist()


def test_rows_of_which_nothing_was_known_are_refused(store):
    store.write_offline({"facts": facts()})
    rows = pd.DataFrame({"VISIT": [2, 3], "WHEN": moments(JULY, JULY)})
    with pytest.raises(FeaturesMissing, match="1 of 2 rows have no features at their moment, the first at row 1"):
        store.training_rows("shop", rows)


def test_rows_without_one_moment_are_refused(store):
    store.write_offline({"facts": facts()})
    with pytest.raises(TableRefused, match="one datetime column"):
        store.training_rows("shop", pd.DataFrame({"VISIT": [2]}))


def test_a_table_without_a_declared_column_is_refused_and_the_old_one_stays(store, settings):
    store.write_offline({"facts": facts()})
    before = (offline_folder(settings) / "facts.parquet").read_bytes()
    with pytest.raises(TableRefused, match="facts has no column SEEN"):
        store.write_offline({"facts": facts().drop(columns="SEEN")})
    assert (offline_folder(settings) / "facts.parquet").read_bytes() == before
    assert [path.name for path in offline_folder(settings).iterdir()] == ["facts.parquet"]


@BOTH
def test_what_was_materialized_is_read_without_feast(store, online):
    store.write_offline({"visits": visits(JULY, p1=[1, 2], p2=[])})
    store.materialize(["visits"], JULY + DAY)
    assert times(online, 1) == [1, 2]
    assert times(online, 2) == []
    stored = online.read([Key("visits", 1)])[Key("visits", 1)]
    assert stored.event_time == JULY
    assert stored.values["times"].dtype == np.int64
    assert online.materialized() == {"visits": JULY}


@BOTH
def test_a_row_that_learned_since_the_snapshot_is_kept(store, online):
    store.write_offline({"visits": visits(JULY, p1=[1], p2=[1], p3=[1])})
    store.materialize(["visits"], JULY)
    online.apply("shop", 1, [], teach(1, [1, 7], JULY + 2 * DAY))
    online.apply("shop", 2, [], teach(2, [1, 5], JULY + DAY))
    online.apply("shop", 3, [], teach(3, [1, 4], JULY + DAY - timedelta(seconds=1)))
    store.write_offline({"visits": visits(JULY + DAY, p1=[1, 2], p2=[1, 2], p3=[1, 2, 4])})
    store.materialize(["visits"], JULY + DAY)
    assert times(online, 1) == [1, 7]  # learned after the snapshot
    assert times(online, 2) == [1, 5]  # learned at its very moment, which the snapshot excludes
    assert times(online, 3) == [1, 2, 4]  # all it had learned is older than the snapshot
    assert online.applied("shop") == 3
    store.materialize(["visits"], JULY + DAY)
    assert times(online, 1) == [1, 7]


@BOTH
def test_materializing_again_takes_corrected_data_of_the_same_moment(store, online):
    for values in ([1], [1, 2]):
        store.write_offline({"visits": visits(JULY, p1=values)})
        store.materialize(["visits"], JULY)
    assert times(online, 1) == [1, 2]


@BOTH
def test_a_late_event_is_learned_although_it_is_older_than_the_snapshot(store, online):
    store.write_offline({"visits": visits(JULY, p1=[5])})
    store.materialize(["visits"], JULY)
    online.apply("shop", 1, [], teach(1, [4, 5], JULY - DAY))
    assert times(online, 1) == [4, 5]


def test_a_moment_that_has_not_come_is_refused(store):
    store.write_offline({"visits": visits(JULY, p1=[1])})
    with pytest.raises(FutureDate, match="in the future"):
        store.materialize(["visits"], datetime.now(UTC) + DAY)


def test_a_table_of_a_later_moment_or_none_is_refused(store):
    with pytest.raises(TableRefused, match="no table"):
        store.materialize(["visits"], JULY)
    store.write_offline({"visits": visits(JULY, p1=[1])})
    with pytest.raises(TableRefused, match="later than"):
        store.materialize(["visits"], JULY - DAY)


@BOTH
def test_an_empty_table_materializes_nothing(store, online):
    store.write_offline({"visits": visits(JULY)})
    store.materialize(["visits"], JULY)
    assert online.materialized() == {}


@BOTH
def test_the_sdk_reads_what_the_adapter_wrote(store, online):
    store.apply(declarations())  # repeating it changes nothing
    online.apply("shop", 1, [], teach(8, [3, 2**60], JULY))
    online.apply("shop", 2, [], teach(9, [], JULY))
    response = store._feast.get_online_features(["visits:times"], [{"PERSON": person} for person in (8, 9, 10)])
    assert response.to_dict()["times"] == [[3, 2**60], [], None]
    assert response.proto.results[1].event_timestamps[0].ToDatetime(tzinfo=UTC) == JULY


def test_progress_names_the_views(store):
    store.write_offline({"visits": visits(JULY, p1=[1])})
    said = []
    store.materialize(["visits"], JULY, lambda *what: said.append(what))
    assert said == [("materialize", 0, 1, "visits"), ("materialize", 1, 1)]
