"""What the feature store keeps: how often a waiter was seen, and the offline inputs of every table."""

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64

from usecases.tips.features import FEATURES

waiter = Entity(name="waiter", join_keys=["waiter_id"], value_type=ValueType.INT64)
table = Entity(name="table", join_keys=["table_id"], value_type=ValueType.INT64)

waiter_visits = FeatureView(
    name="waiter_visits",
    entities=[waiter],
    schema=[Field(name="visits", dtype=Int64)],
    source=FileSource(path="waiter_visits.parquet", timestamp_field="event_timestamp"),
    online=True,
)
table_features = FeatureView(
    name="table_features",
    entities=[table],
    schema=[Field(name=name, dtype=Float64) for name in FEATURES],
    source=FileSource(path="table_features.parquet", timestamp_field="event_timestamp"),
    online=False,
)
tips = FeatureService(name="tips", features=[table_features])
