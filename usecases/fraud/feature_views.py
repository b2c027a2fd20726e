"""What the feature store keeps for fraud: two histories online, the features of every transaction offline."""

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64

from usecases.fraud.features import FEATURES

customer = Entity(name="customer", join_keys=["CUSTOMER_ID"], value_type=ValueType.INT64)
terminal = Entity(name="terminal", join_keys=["TERMINAL_ID"], value_type=ValueType.INT64)
transaction = Entity(name="transaction", join_keys=["TRANSACTION_ID"], value_type=ValueType.INT64)

customer_history = FeatureView(
    name="customer_history",
    description="The customer's transactions of the last 30 days.",
    entities=[customer],
    schema=[
        Field(name="CUSTOMER_ID", dtype=Int64),
        Field(name="times", dtype=Array(Int64), description="microseconds since the Unix epoch, ascending"),
        Field(name="cents", dtype=Array(Int64)),
    ],
    source=FileSource(name="customer_history", path="customer_history.parquet", timestamp_field="event_timestamp"),
    online=True,
)

terminal_history = FeatureView(
    name="terminal_history",
    description="The terminal's transactions of the last 37 days, with the labels that have arrived.",
    entities=[terminal],
    schema=[
        Field(name="TERMINAL_ID", dtype=Int64),
        Field(name="times", dtype=Array(Int64), description="microseconds since the Unix epoch, ascending"),
        Field(name="frauds", dtype=Array(Int64), description="1 if known to be a fraud, else 0"),
    ],
    source=FileSource(name="terminal_history", path="terminal_history.parquet", timestamp_field="event_timestamp"),
    online=True,
)

transaction_features = FeatureView(
    name="transaction_features",
    description="What the model may see of a transaction, as of its own moment.",
    entities=[transaction],
    schema=[
        Field(name="TRANSACTION_ID", dtype=Int64),
        *(Field(name=name, dtype=Float32) for name in FEATURES),
    ],
    source=FileSource(
        name="transaction_features", path="transaction_features.parquet", timestamp_field="event_timestamp"
    ),
    online=False,
)

fraud = FeatureService(name="fraud", features=[transaction_features])
