"""What the feature store keeps for house prices: the features of every sale, offline; a request brings its own."""

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32, Int64

from usecases.house_prices.features import FEATURES

sale = Entity(name="sale", join_keys=["sale_id"], value_type=ValueType.INT64)

house_features = FeatureView(
    name="house_features",
    description="What the model may see of a house, as of the month of its sale.",
    entities=[sale],
    schema=[Field(name="sale_id", dtype=Int64), *(Field(name=name, dtype=Float32) for name in FEATURES)],
    source=FileSource(name="house_features", path="house_features.parquet", timestamp_field="event_timestamp"),
    online=False,
)

house_prices = FeatureService(name="house_prices", features=[house_features])
