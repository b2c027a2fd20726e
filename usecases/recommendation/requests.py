"""What a client asks and tells, and what it is answered."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from orrery.usecase import Answer, Arrival
from usecases.recommendation.items import GENRES, genre_bits

LARGEST_USER = 2**53 - 1
LARGEST_ITEM = 2**24 - 1
"""ids of items travel as float32, which is exact so far"""
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MOST_SHOWN = 100


def _in_utc(moment: datetime) -> datetime:
    """Raw data hold no other moment, and no time zone carries one of these out of the calendar."""
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"must lie between the years {EARLIEST.year} and {LATEST.year - 1}, in UTC")
    return moment.astimezone(UTC)


def _known(genre: str) -> str:
    if genre not in GENRES:
        raise ValueError(f"must be one of {', '.join(GENRES)}")
    return genre


RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
UserId = Annotated[int, Field(ge=0, le=LARGEST_USER)]
ItemId = Annotated[int, Field(ge=0, le=LARGEST_ITEM)]
Genre = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(GENRES)})]
Year = Annotated[int, Field(ge=1, le=9999)]
Moment = Annotated[Arrival, AfterValidator(_in_utc)]


class Strict(BaseModel):
    """Nothing is guessed: no unknown field, no number in quotes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Context(Strict):
    """What the user is about right now."""

    genres: Annotated[tuple[Genre, ...], Field(max_length=5)] = ()
    """asked for: they weigh, and exclude nothing"""
    item_id: ItemId | None = None
    """what the user looks at"""

    @property
    def bits(self) -> int:
        """The genres asked for, as bits of `items.GENRES`."""
        return genre_bits("|".join(self.genres))


class Filters(Strict):
    """What an item must be to be shown. An item of unknown year passes no bound of years."""

    genres_any: Annotated[tuple[Genre, ...], Field(max_length=len(GENRES))] = ()
    genres_none: Annotated[tuple[Genre, ...], Field(max_length=len(GENRES))] = ()
    year_from: Year | None = None
    year_to: Year | None = None


class RecommendationRequest(Strict):
    """A place on a page that waits for items."""

    request_id: RequestId = Field(default_factory=lambda: uuid4().hex)
    """also the seed of all that is drawn by chance: the same request has the same answer"""
    user_id: UserId
    k: Annotated[int, Field(ge=1, le=MOST_SHOWN)] = 10
    at: Moment
    context: Context = Context()
    exclude: Annotated[tuple[ItemId, ...], Field(max_length=500)] = ()
    filters: Filters = Filters()
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0 keeps the ranker's order, 1 looks only at how much the items differ"""
    explain: bool = False
    """name the liked item that speaks most for each one"""
    explore: bool = True


class RecommendationFeedback(Strict):
    """What became of an item that was shown; without `request_id`, what a user did elsewhere."""

    request_id: RequestId | None = None
    user_id: UserId
    item_id: ItemId
    event: Literal["impression", "click", "rating", "purchase"]
    rating: Annotated[float, Field(gt=0, le=5)] | None = None
    """of 5; only of a rating"""
    at: Moment

    @model_validator(mode="after")
    def _rated(self) -> Self:
        if (self.event == "rating") != (self.rating is not None):
            raise ValueError("a rating has a value in `rating`, any other event has none")
        return self


class Shown(BaseModel):
    """One item of an answer, and all that must be known to judge another policy by it."""

    item_id: int
    title: str
    genres: tuple[str, ...] = ()
    rank: int
    """1 is the first"""
    score: float | None = None
    """the ranker's, in (0, 1); None where it does not know the item"""
    source: str
    """where the item came from: a source of candidates, or "new", "promotion", "all-time", "listed" """
    reason: str
    """in words"""
    propensity: float = 1.0
    """probability of this item at this rank, given the ranks before it and the slots that were promoted"""
    pool: int = 1
    """how many items exploration would have drawn from at this rank"""
    best_score: float | None = None
    """score of the best that was left at this rank"""
    pool_score: float | None = None
    """mean score of the pool"""
    explored: bool = False
    """drawn by chance instead of the best that was left"""
    promoted: bool = False


class Policy(BaseModel):
    """What chose the items, beside the model."""

    rules: str
    """version of the rule set"""
    ranker: str | None = None
    epsilon: float = 0.0
    """how often a rank is given to chance"""
    catalogue: int = 0
    """items that could be recommended to somebody"""


class RecommendationAnswer(Answer):
    """Items for a user, best first."""

    request_id: str
    user_id: int
    items: tuple[Shown, ...] = ()
    reason: str | None = None
    """why it is not the usual list: "fallback", or "nothing left" and which condition left how many"""
    policy: Policy
