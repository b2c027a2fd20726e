"""Feast writes snapshots into Redis while a gateway learns: whoever comes first, what was learned stays."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.types import Array, Int64
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from orrery.adapters import feast_redis
from orrery.adapters.feature_store import FeatureStore, repo_config
from orrery.adapters.online_store import StoreUnavailable, open_online_store
from orrery.usecase import Key, Update

pytest_plugins = ["postgres_server"]
JULY = datetime(2018, 7, 1, tzinfo=UTC)
PEOPLE = range(8)


def declarations():
    person = Entity(name="person", join_keys=["PERSON"], value_type=ValueType.INT64)
    sources = {
        name: FileSource(name=name, path=f"{name}.parquet", timestamp_field="event_timestamp")
        for name in ("visits", "calls")
    }
    views = [
        FeatureView(
            name=name,
            entities=[person],
            schema=[Field(name="PERSON", dtype=Int64), Field(name="times", dtype=Array(Int64))],
            source=source,
            online=True,
        )
        for name, source in sources.items()
    ]
    return [person, *views]


@pytest.fixture
def worker(redis, settings):
    store = FeatureStore(redis.settings(settings, "worker"))
    store.apply(declarations())
    return store


@pytest.fixture
def gateway(redis, settings, worker, patience):
    store = open_online_store(redis.settings(settings, "gateway"))
    yield store
    store.close()


def snapshot(worker, rows, view="visits"):
    """Write `rows` - (person, times, moment) - as Feast's materialization does."""
    feast = worker._feast
    data = [
        (
            EntityKey(join_keys=["PERSON"], entity_values=[Value(int64_val=person)]),
            {"times": Value(int64_list_val=Int64List(val=times))},
            moment,
            None,
        )
        for person, times, moment in rows
    ]
    done = []
    feast._get_provider().online_write_batch(feast.config, feast.get_feature_view(view), data, done.append)
    assert sum(done) == len(data)


def learn(gateway, person, times, moment, view="visits"):
    key = Key(view, person)
    update = Update(key, {"times": np.array(times, dtype=np.int64)}, moment)
    gateway.apply("shop", gateway.applied("shop") + 1, [key], lambda _: [update])


def known(gateway, view="visits"):
    keys = [Key(view, person) for person in PEOPLE]
    found = gateway.read(keys)
    return {
        key.entity: (found[key].values["times"].tolist(), found[key].event_time)
        for key in keys
        if found[key].status == "present"
    }


def test_what_is_learned_between_a_snapshots_read_and_its_write_is_kept(worker, gateway, monkeypatch):
    later, commit, writes = JULY + timedelta(hours=1), feast_redis.commit, []

    def interrupted(connection, commands):
        writes.append(len(commands))
        if len(writes) == 1:
            learn(gateway, 3, [3, 3], later)
        return commit(connection, commands)

    monkeypatch.setattr(feast_redis, "commit", interrupted)
    snapshot(worker, [(person, [person], JULY) for person in PEOPLE])
    assert known(gateway) == {person: ([person], JULY) for person in PEOPLE} | {3: ([3, 3], later)}
    assert sorted(writes) == [3, 4, 8]  # refused whole, then in halves; one row stays as learned


def test_a_snapshot_that_never_comes_first_gives_up(worker, gateway, monkeypatch):
    monkeypatch.setattr(feast_redis, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(feast_redis, "commit", lambda *_: False)
    with pytest.raises(StoreUnavailable, match="all the time"):
        snapshot(worker, [(1, [1], JULY)])


def test_views_of_one_entity_do_not_touch_each_other(worker, gateway):
    learn(gateway, 1, [5], JULY, "calls")
    snapshot(worker, [(1, [1], JULY)])
    snapshot(worker, [(1, [9], JULY)], "calls")
    assert known(gateway)[1] == ([1], JULY)
    assert known(gateway, "calls")[1] == ([5], JULY)


def test_the_newest_of_several_rows_of_one_entity_is_kept(worker, gateway):
    rows = [(1, [1], JULY), (1, [2], JULY + timedelta(microseconds=1)), (1, [3], JULY - timedelta(days=1))]
    snapshot(worker, rows)
    assert known(gateway) == {1: ([2], JULY + timedelta(microseconds=1))}


STEPS = st.lists(st.tuples(st.sampled_from(["learn", "snapshot"]), st.integers(0, 3)), max_size=12)


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_row_is_replaced_by_a_snapshot_only_if_all_it_has_learned_is_older(worker, gateway, redis, steps):
    with redis.admin() as client:
        client.delete(*(key for key in client.scan_iter() if key.startswith(b"\x01")), "none")
    row, learned = None, False
    for number, (step, hour) in enumerate(steps):
        moment = JULY + timedelta(hours=hour)
        if step == "learn":
            learn(gateway, 1, [number], moment)
            row, learned = ([number], moment), True
        else:
            snapshot(worker, [(1, [number], moment)])
            if row is None or row[1] < moment or (row[1] == moment and not learned):
                row, learned = ([number], moment), False
        assert known(gateway).get(1) == row


def test_feasts_own_client_stays_within_its_rights(worker, gateway, redis):
    learn(gateway, 1, [1, 2], JULY)
    learn(gateway, 1, [3], JULY, "calls")
    learn(gateway, 2, [4], JULY)
    refs = ["visits:times", "calls:times"]
    response = worker._feast.get_online_features(refs, [{"PERSON": 1}, {"PERSON": 2}], full_feature_names=True)
    assert response.to_dict() == {"PERSON": [1, 2], "visits__times": [[1, 2], [4]], "calls__times": [[3], None]}
    worker._feast.apply([], objects_to_delete=[worker._feast.get_feature_view("visits")], partial=False)
    assert known(gateway) == {}
    assert known(gateway, "calls") == {1: ([3], JULY)}
    with redis.admin() as client:
        assert client.acl_log() == []


def test_feast_is_told_where_the_password_lies_and_not_the_password(redis, settings):
    config = repo_config(redis.settings(settings, "worker")).online_store
    assert type(config).__name__ == "KeepLearnedOnlineStoreConfig"
    assert config.password_file == str(redis.folder / "worker")


def test_feast_keeps_its_registry_in_postgres(redis, settings, postgres):
    chosen = redis.settings(settings, "worker", registry=postgres.database())
    FeatureStore(chosen).apply(declarations())
    again = FeatureStore(chosen)
    assert {view.name for view in again._feast.list_feature_views()} == {"visits", "calls"}
    assert not (settings.feature_folder / "registry.db").exists()
