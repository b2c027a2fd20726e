"""The same rows by the model server and by its twin: what counts as the same."""

import numpy as np
import pytest

from orrery.adapters.registry import Record, Registry
from orrery.lifecycle import Release
from orrery.model_serving import ServingParityBroken, compare
from orrery.promotion import Promoter

MASK = np.zeros((2, 100, 100), np.uint8)
MASK[:, 20:80, 20:80] = 1
SAME = {"score": np.array([0.5, np.nan]), "mask": MASK, "class": np.array([1, 2])}


def changed(**other):
    return SAME | other


def pixels(count, level=1):
    """The mask with so many more pixels in its first row."""
    more = MASK.copy()
    more[0].reshape(-1)[:count] = level
    return more


def test_what_is_the_same():
    assert compare(SAME, SAME, 1e-4) == (0.0, 1.0)
    assert compare(changed(score=np.array([0.50009, np.nan])), SAME, 1e-4)[0] == pytest.approx(9e-5)
    assert 0.999 < compare(changed(mask=pixels(7)), SAME, 1e-4)[1] < 1
    nothing = {"mask": np.zeros((1, 4, 4), np.uint8)}
    assert compare(nothing, nothing, 0) == (0.0, 1.0)
    endless = {"score": np.array([np.inf, -np.inf])}
    assert compare(endless, endless, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    "found",
    [
        changed(score=np.array([0.5002, np.nan])),
        changed(score=np.array([0.5, 0.5])),
        changed(score=np.array([np.nan, np.nan])),
        changed(score=np.array([0.5, np.inf])),
        changed(mask=pixels(8)),
        changed(mask=MASK[:, :50]),
        changed(mask=MASK.astype(np.float32)),
        changed(**{"class": np.array([1, 3])}),
        changed(more=MASK),
        {"score": SAME["score"]},
    ],
)
def test_what_is_not(found):
    with pytest.raises(ServingParityBroken):
        compare(found, SAME, 1e-4)


def test_a_map_of_levels_may_be_off_by_little():
    levels = np.random.default_rng(7).integers(0, 256, (1, 64, 64)).astype(np.uint8)
    assert compare({"map": np.minimum(levels, 254)}, {"map": levels}, 0)[1] > 0.9999
    with pytest.raises(ServingParityBroken):
        compare({"map": (levels * 0.99).astype(np.uint8)}, {"map": levels}, 0)


class NotReady(Exception):
    pass


def test_what_cannot_be_made_ready_moves_no_alias(catalogue, make_bundle):
    registry = Registry(catalogue)

    def release(key):
        bundle = make_bundle()
        run_id = registry.log_run(Record("toy", key, {}, {}, {"idempotency_key": key}, bundle))
        tags = {"idempotency_key": key, "digest": bundle.digest, "gate": "passed"}
        return Release("toy", registry.register("toy", run_id, tags).version, bundle.digest, run_id)

    def refuse(version):
        raise NotReady(version.version)

    first, second = release("a"), release("b")
    asked = []
    good = Promoter(catalogue, ready=lambda version: {"asked": asked.append(version.version) or len(asked)})
    assert good.promote(first).facts == {"asked": 1}
    assert good.promote(second).facts == {"asked": 2}
    assert good.promote(second).facts == {"asked": 3}, "also what is champion already is made ready"
    with pytest.raises(NotReady):
        Promoter(catalogue, ready=refuse).promote(first)
    with pytest.raises(NotReady):
        Promoter(catalogue, ready=refuse).rollback("toy")
    assert registry.version("toy", "champion").version == second.version
    assert registry.version("toy", "previous").version == first.version
    assert asked == [first.version, second.version, second.version]
