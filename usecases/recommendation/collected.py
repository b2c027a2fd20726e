"""What users clicked, bought and rated, as raw rows: what a release learns from what was served."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from orrery.usecase import KnownRows
from usecases.recommendation.feedback import stars
from usecases.recommendation.requests import RecommendationFeedback

if TYPE_CHECKING:
    import pandas as pd

NEW = -1
"""in the place of an EVENT_ID: it has none yet"""
ABOUT: Mapping[str, Any] = {"TITLE": "", "GENRES": "", "YEAR": 0}
"""what is said of an item that nothing is known of"""


def collected(_: Iterable[BaseModel], feedback: Iterable[BaseModel], known: KnownRows) -> "pd.DataFrame":
    """One row a feedback from which the store learned, with the stars that it learned; impressions teach nothing.

    What an item is was not told: it is known, or it is nothing yet.
    """
    import pandas as pd

    about = known(["ITEM_ID", *ABOUT]).drop_duplicates("ITEM_ID").set_index("ITEM_ID")
    items = dict(zip(about.index, about.itertuples(index=False, name=None), strict=True))
    rows = [
        (NEW, told.user_id, told.item_id, stars(told), told.at, *items.get(told.item_id, ABOUT.values()))
        for told in cast("Iterable[RecommendationFeedback]", feedback)
        if told.event != "impression"
    ]
    columns = ["EVENT_ID", "USER_ID", "ITEM_ID", "RATING", "AT", *ABOUT]
    return pd.DataFrame(rows, columns=columns).astype({"AT": "datetime64[us, UTC]"})
