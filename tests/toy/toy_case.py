"""The smallest use case that can be released: one input, which the label follows with noise."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from onnx import TensorProto, helper
from pydantic import BaseModel

from orrery.usecase import Answer, Budget, Case, Fitted, Gate, Serving, Split, Training

START = datetime(2024, 1, 1, tzinfo=UTC)
DELAY = timedelta(days=1)
TEST_DAYS = 5


class ToyRequest(BaseModel):
    id: int = 0


def raw(rows=600, seed=7):
    """One row an hour; `x` decides `y` but for noise."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=rows)
    at = pd.date_range(START, periods=rows, freq="h", unit="us")
    return pd.DataFrame(
        {"id": np.arange(rows), "at": at, "who": np.arange(rows) % 50, "y": x + draw.normal(size=rows) > 0, "seen": x}
    ).astype({"y": int})  # fmt: skip


def features(frame):
    table = frame[["id", "at", "seen"]].rename(columns={"at": "event_timestamp", "seen": "x"})
    return {"toy_features": table.astype({"x": np.float32})}


def split(frame, window):
    end = window.as_of - DELAY
    start = end - timedelta(days=TEST_DAYS)
    begin = start - DELAY - timedelta(days=window.days)
    train = frame[(frame["at"] >= begin) & (frame["at"] < start - DELAY)]
    return Split(train, (), frame[(frame["at"] >= start) & (frame["at"] <= end)])


def graph(slope):
    """sigmoid(slope * x)"""
    nodes = [
        helper.make_node("Constant", [], ["slope"], value_float=float(slope)),
        helper.make_node("Mul", ["inputs", "slope"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["score"]),
    ]
    put = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["n", 1])
    got = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
    model = helper.make_model(
        helper.make_graph(nodes, "toy", [put], [got]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    return model.SerializeToString()


def fit(parts, budget, progress, folder):
    """The slope is the sign of the correlation; a seed of 13 makes it a bad one, on purpose."""
    slope = np.corrcoef(parts.train["x"], parts.train["y"])[0, 1] * 3
    (folder / "classifier.onnx").write_bytes(graph(-slope if budget.seed == 13 else slope + budget.trials / 10))
    progress("fit", 1, 1)
    plot = folder.parent / "slope.png"
    plot.write_bytes(b"png")
    return Fitted(folder, {"slope": float(slope)}, {"slope": slope}, {"train_rows": len(parts.train)}, {"slope": plot})


def score(model, inputs):
    return {"score": model.run("classifier.onnx", inputs)[0][:, 0].astype(np.float64)}


def measure(rows, outputs):
    truth, said = rows["y"].to_numpy(), outputs["score"] > 0.5
    return lambda weights: {"accuracy": float(np.average(truth == said, weights=weights))}


def plots(rows, outputs, folder):
    path = folder / "scores.png"
    path.write_bytes(b"png")
    return {"scores": path}


def history(frame, moment):
    """How often each `who` was seen before the moment."""
    seen = frame[frame["at"] < moment].groupby("who").size().rename("times_seen").reset_index()
    return {"toy_history": seen.assign(event_timestamp=pd.Timestamp(moment))}


def views():
    """What the feature store keeps; apart, because importing Feast takes seconds."""
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Float32, Int64

    def view(name, key, field, online):
        source = FileSource(path=f"{name}.parquet", timestamp_field="event_timestamp")
        return FeatureView(name=name, entities=[key], schema=[field], source=source, online=online)

    row = Entity(name="row", join_keys=["id"], value_type=ValueType.INT64)
    who = Entity(name="who", join_keys=["who"], value_type=ValueType.INT64)
    offline = view("toy_features", row, Field(name="x", dtype=Float32), online=False)
    online = view("toy_history", who, Field(name="times_seen", dtype=Int64), online=True)
    return (row, who, offline, online, FeatureService(name="toy", features=[offline]))


TRAINING = Training(
    sources={"generated": lambda request, progress: raw()},
    validate=lambda frame: frame,
    describe=lambda frame: {"rows": len(frame)},
    identity="id",
    moment="at",
    target="y",
    label_delay=DELAY,
    unit="who",
    features=features,
    history=history,
    split=split,
    fit=fit,
    measure=measure,
    plots=plots,
    requests=lambda frame: [],
    gate=Gate(floors={"accuracy": 0.6}, ceilings={}, compare=("accuracy",), latency_ms=50),
    replay_from=START + timedelta(days=20),
    train_days=10,
    schedule="0 4 * * *",
    budget=Budget(trials=1, seconds=1),
)
SERVING = Serving(
    request=ToyRequest,
    response=Answer,
    feedback=ToyRequest,
    identity=lambda value: str(value.id),
    moment=lambda value: START,
    keys=lambda value: [],
    features=lambda stored, value: np.zeros(1, np.float32),
    feature_names=("x",),
    score=score,
    respond=lambda scored: Answer(),
    fallback=lambda asked, model: Answer(degraded=True),
    learn=lambda value, stored: [],
    learn_label=lambda value, request, stored: [],
    label=lambda value: 0.0,
    label_arrival=lambda value: START,
    rules=lambda value, rules: (),
    default_rules={"version": "1"},
    example=ToyRequest(),
    example_feedback=ToyRequest(),
    deadline_ms=100,
)
CASE = Case("toy", TRAINING, SERVING)
