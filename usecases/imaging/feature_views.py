"""What the feature store keeps for imaging: what is said of every film beside its picture, offline."""

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32, String

from usecases.imaging.features import FEATURES, TAGS

film = Entity(name="film", join_keys=["film_id"], value_type=ValueType.STRING)

film_features = FeatureView(
    name="film_features",
    description="Who a film shows, how its picture is and how it was acquired, as of the moment it was taken.",
    entities=[film],
    schema=[Field(name="film_id", dtype=String), *(Field(name=name, dtype=Float32) for name in (*FEATURES, *TAGS))],
    source=FileSource(name="film_features", path="film_features.parquet", timestamp_field="event_timestamp"),
    online=False,
)

imaging = FeatureService(name="imaging", features=[film_features])
