"""The feature tables of raw transactions: what was known at each row's moment, and what the store holds at one."""

from datetime import datetime

import numpy as np
import pandas as pd

from usecases.fraud import features as definitions
from usecases.fraud.features import CUSTOMER_MEMORY, FEATURES, LABEL_DELAY, TERMINAL_MEMORY, Integers, Mark


def features(raw: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Canonical raw rows -> the table of the view `transaction_features`, one row each, in the same order.

    The features are float32. Raises features.Unordered.
    """
    values = definitions.offline_features(*columns(raw))
    frame = pd.DataFrame(values.astype(np.float32), columns=list(FEATURES))
    frame.insert(0, "TRANSACTION_ID", raw["TRANSACTION_ID"].to_numpy())
    frame.insert(1, "event_timestamp", raw["TX_DATETIME"].array)
    return {"transaction_features": frame}


def history(raw: pd.DataFrame, moment: datetime) -> dict[str, pd.DataFrame]:
    """Canonical raw rows -> what the online views hold at `moment`: one row an entity, events strictly before it.

    A fraud is marked only if its label had arrived; later labels reach the store as feedback. Entities without an
    event that a window can still reach have no row. `event_timestamp` is the moment, or where the rows end, if that is
    earlier: the snapshot claims to know everything before it, and nothing after.
    """
    known = raw[raw["TX_DATETIME"] < moment]
    as_of = min(pd.Timestamp(moment), raw["TX_DATETIME"].max()) if len(raw) else pd.Timestamp(moment)
    arrived = known["TX_DATETIME"] + LABEL_DELAY <= moment
    events = pd.DataFrame(
        {
            "CUSTOMER_ID": known["CUSTOMER_ID"],
            "TERMINAL_ID": known["TERMINAL_ID"],
            "times": microseconds(known["TX_DATETIME"]),
            "cents": cents(known["TX_AMOUNT"]),
            "frauds": known["TX_FRAUD"].where(arrived, 0).astype(np.int64),
        }
    )
    spent = events[events["times"] > definitions.micros(moment - CUSTOMER_MEMORY)]
    seen = events[events["times"] > definitions.micros(moment - TERMINAL_MEMORY)]
    return {
        "customer_history": _by_entity(spent, "CUSTOMER_ID", "cents", as_of),
        "terminal_history": _by_entity(seen, "TERMINAL_ID", "frauds", as_of),
    }


def columns(raw: pd.DataFrame) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """What `offline_features` takes: times, customers, terminals, cents and frauds of canonical raw rows."""
    customers, terminals, frauds = (np.asarray(raw[name]) for name in ("CUSTOMER_ID", "TERMINAL_ID", "TX_FRAUD"))
    return microseconds(raw["TX_DATETIME"]), customers, terminals, cents(raw["TX_AMOUNT"]), frauds


def microseconds(moments: pd.Series) -> Integers:
    """datetime64[us, UTC] as int64 microseconds since the Unix epoch."""
    return np.asarray(moments.dt.tz_convert(None).to_numpy(dtype="datetime64[us]").astype(np.int64))


def cents(amounts: pd.Series) -> Integers:
    """Amounts with two decimals as whole cents."""
    return np.asarray(np.rint(amounts.to_numpy(dtype=np.float64) * 100).astype(np.int64))


def _by_entity(events: pd.DataFrame, entity: str, mark: Mark, as_of: pd.Timestamp) -> pd.DataFrame:
    ordered = events.sort_values(entity, kind="stable")
    found, starts = np.unique(ordered[entity].to_numpy(), return_index=True)
    table = pd.DataFrame({entity: found})
    table["event_timestamp"] = pd.Series(as_of, index=table.index, dtype="datetime64[us, UTC]")
    for name in ("times", mark):
        lists = np.split(ordered[name].to_numpy(), starts[1:])[: len(found)]
        table[name] = pd.Series(lists, index=table.index, dtype=object)
    return table
