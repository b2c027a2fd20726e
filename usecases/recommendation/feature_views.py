"""What the feature store keeps: histories and item profiles online, the named features of every event offline."""

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int64

from usecases.recommendation.features import FEATURES

user = Entity(name="user", join_keys=["USER_ID"], value_type=ValueType.INT64)
item = Entity(name="item", join_keys=["ITEM_ID"], value_type=ValueType.INT64)
catalogue = Entity(name="catalogue", join_keys=["CATALOGUE_ID"], value_type=ValueType.INT64)
event = Entity(name="event", join_keys=["EVENT_ID"], value_type=ValueType.INT64)


def _source(view: str) -> FileSource:
    return FileSource(name=view, path=f"{view}.parquet", timestamp_field="event_timestamp")


user_history = FeatureView(
    name="user_history",
    description="All that a user has rated, clicked or bought, oldest first; feedback adds to it.",
    entities=[user],
    schema=[
        Field(name="USER_ID", dtype=Int64),
        Field(name="times", dtype=Array(Int64), description="microseconds since the Unix epoch, ascending"),
        Field(name="items", dtype=Array(Int64)),
        Field(name="ratings", dtype=Array(Float64), description="of 5"),
        Field(name="genres", dtype=Array(Int64), description="bits of usecases.recommendation.items.GENRES"),
    ],
    source=_source("user_history"),
    online=True,
)

trending = FeatureView(
    name="trending",
    description="The likes of all users in the last 30 days, at most the newest 5,000; feedback adds to them.",
    entities=[catalogue],
    schema=[
        Field(name="CATALOGUE_ID", dtype=Int64),
        Field(name="times", dtype=Array(Int64), description="microseconds since the Unix epoch, ascending"),
        Field(name="items", dtype=Array(Int64)),
    ],
    source=_source("trending"),
    online=True,
)

item_profile = FeatureView(
    name="item_profile",
    description="What an item is, and how much it was liked until the last materialization.",
    entities=[item],
    schema=[
        Field(name="ITEM_ID", dtype=Int64),
        Field(name="genres", dtype=Int64, description="bits of usecases.recommendation.items.GENRES"),
        Field(name="year", dtype=Int64, description="0: unknown"),
        Field(name="likes", dtype=Int64),
        Field(name="likes_30d", dtype=Int64),
        Field(name="likes_365d", dtype=Int64),
        Field(name="age_days", dtype=Float64, description="since its first event"),
    ],
    source=_source("item_profile"),
    online=True,
)

item_vectors = FeatureView(
    name="item_vectors",
    description="An item's content as a vector of unit length; also of items that no model knows yet.",
    entities=[item],
    schema=[Field(name="ITEM_ID", dtype=Int64), Field(name="vector", dtype=Array(Float32))],
    source=_source("item_vectors"),
    online=True,
)

event_features = FeatureView(
    name="event_features",
    description="What the model may see of a user and a moment, as of that moment.",
    entities=[event],
    schema=[Field(name="EVENT_ID", dtype=Int64), *(Field(name=name, dtype=Float32) for name in FEATURES)],
    source=_source("event_features"),
    online=False,
)

recommendation = FeatureService(name="recommendation", features=[event_features])
