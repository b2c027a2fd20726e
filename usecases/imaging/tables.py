"""The feature table of raw films: what is said of each beside its picture."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pandas as pd

from orrery.usecase import Array
from usecases.imaging.features import FEATURES, TAGS, named, tags
from usecases.imaging.film_table import ACQUIRED, COLUMNS
from usecases.imaging.picture import SIDE, decode


def features(raw: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Canonical raw rows -> the table of the view `film_features`, one row each, in the same order, float32.

    Rows from before size and device were kept have neither.
    """
    names, known = [*FEATURES, *TAGS], raw.reindex(columns=list(COLUMNS))
    said = zip(*(known[name] for name in ("picture", "age", "sex", "view", *ACQUIRED)), strict=True)
    values = [
        [*named(decode(picture), age, sex, view), *tags(*acquired)] for picture, age, sex, view, *acquired in said
    ]
    frame = pd.DataFrame(np.array(values, dtype=np.float32).reshape(-1, len(names)), columns=names)
    frame.insert(0, "film_id", raw["film_id"].to_numpy())
    frame.insert(1, "event_timestamp", raw["taken_at"].array)
    return {"film_features": frame}


def history(_: pd.DataFrame, __: datetime) -> Mapping[str, pd.DataFrame]:
    """Nothing: a request brings all that the model needs."""
    return {}


def inputs(rows: pd.DataFrame) -> Array:
    """The model's inputs of rows with features, float32, shape (n, features + 16,384)."""
    pictures = np.array([decode(picture).ravel() for picture in rows["picture"]], dtype=np.float32)
    return np.hstack([rows[list(FEATURES)].to_numpy(np.float32), pictures.reshape(len(rows), SIDE * SIDE)])
