"""Why an item is shown, in a few words."""

from collections.abc import Mapping

from usecases.recommendation.requests import RecommendationRequest

_WORDS: Mapping[str, str] = {
    "ease": "liked by people who like what you like",
    "factors": "close to your taste",
    "markov": "often liked right after what you liked last",
    "popular": "popular in the last 30 days",
    "content": "of a kind that you like",
    "new": "new here",
    "promotion": "promoted",
    "all-time": "liked by many",
    "listed": "chosen by hand",
}
EXPLAINED = frozenset({"ease", "factors", "markov", "content"})
"""sources that follow from what the user liked"""


def reason(source: str, explored: bool, request: RecommendationRequest, liked: str | None) -> str:
    """The words for one item. `liked`: the title of what speaks most for it, "" if the user looks at that."""
    if explored:
        return "something different"
    if source in EXPLAINED and liked is not None:
        return f"because you liked {liked}" if liked else "like what you are looking at"
    if source == "content" and request.context.item_id is not None:
        return "like what you are looking at"
    if source == "content" and request.context.genres:
        return "of a kind that you asked for"
    return _WORDS[source]


def titled(item: int, title: str, year: int) -> str:
    """An item's name as people say it."""
    if not title:
        return f"item {item}"
    return title if not year or title.endswith(f"({year})") else f"{title} ({year})"
