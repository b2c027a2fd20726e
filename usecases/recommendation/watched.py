"""What the watch measures of lists, beside what is named of their users: what is listed, for how many, for whom.

Of every user the first list of a window counts: his lists are alike. Lists are compared as the model ranks them, before
rules, promotions and chance, which what the model was judged on had not seen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from orrery.two_samples import divergence, mean_above, repeated
from orrery.usecase import Array
from orrery.watching import Impressions, Measure, Sample
from usecases.recommendation.catalogue import ITEMS
from usecases.recommendation.metrics import ndcg
from usecases.recommendation.simulator import online, rewarded

SAMPLED = ("top", "standing", "unknown", "user_events")
_GROUPS = 10
"""of items, each with a tenth of all likes: the first has the few that are liked most"""


def measures(window: Sample, reference: Sample) -> Sequence[Measure]:
    """How popular what is listed is, how often the same is listed, and shares of items and of users not known before.

    Fewer repetitions are no alarm, nor are fewer strangers. Nothing is measured where one of these is lacking.
    """
    if not set(SAMPLED) <= window.keys():
        return ()
    new = [sample["user_events"] == 0 for sample in (window, reference)]
    return (
        divergence("listed_popularity", "popularity_jsd", _groups(window), _groups(reference)),
        repeated("listed_coverage", "repeated_share", window["top"], reference["top"]),
        mean_above("seen_items", "unseen_share", window["unknown"], reference["unknown"]),
        mean_above("users", "unseen_share", *new),
    )


def shown(answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel]) -> dict[str, float]:
    """What the lists as they were shown were worth: the share of items clicked or bought, the nDCG of lists in which
    something was, and the share of the catalogue that was shown. Absent where it cannot be said."""
    served = online(answers, feedback)
    if not served["impressions"]:
        return {}
    taken: dict[str, list[float]] = {}
    for answer, _, reward in rewarded(answers, feedback):
        taken.setdefault(answer["request_id"], []).append(reward)
    gains = [ndcg(np.array([each]), np.array([int(sum(each))]))[0] for each in taken.values() if any(each)]
    mean = {"shown_ndcg": float(np.mean(gains))} if gains else {}
    return {"ctr": served["ctr"], "shown_coverage": served["coverage"], **mean}


def impressions(answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel]) -> Impressions:
    """Each answer as a list, its items as they were shown, and whether each was clicked or bought there."""
    rows = [(answer["request_id"], shown, reward) for answer, shown, reward in rewarded(answers, feedback)]
    return Impressions(
        lists=np.array([request for request, *_ in rows], np.str_),
        items=np.array([shown["item_id"] for _, shown, _ in rows], np.int64),
        ranks=np.array([shown["rank"] for _, shown, _ in rows], np.int64),
        taken=np.array([reward for *_, reward in rows]) > 0,
    )


def popularity(folder: Path) -> tuple[Array, Array]:
    """The items of the bundle in a folder, ids and likes until its training ended, both int64 of shape (n,)."""
    table = np.load(folder / ITEMS, allow_pickle=False)
    return table["id"], table["likes"]


def _groups(sample: Sample) -> Array:
    """How many of each list's items are in each group, shape (lists, groups)."""
    standing = np.asarray(sample["standing"])
    group = np.where(standing < 0, -1, np.floor(standing * _GROUPS))
    found: Array = (group[:, :, None] == np.arange(_GROUPS)).sum(axis=1)
    return found
