"""Why a score is high: the model's contributions, summed by what they are about, as codes that stay the same."""

from pydantic import BaseModel

from orrery.usecase import Array
from usecases.fraud.features import FEATURES

_MOST = 4
_GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "AMOUNT": ("The amount itself is of a kind seen in fraud.", ("TX_AMOUNT",)),
    "AMOUNT_UNUSUAL": ("The amount differs from what this customer usually spends.", ("AMOUNT_TO_CUSTOMER_",)),
    "TIME": ("The time of day or the day of the week is unusual.", ("TX_DURING_",)),
    "CUSTOMER_VELOCITY": ("The customer's number of recent transactions is unusual.", ("CUSTOMER_ID_NB_TX_",)),
    "CUSTOMER_SPENDING": ("The customer's recent average amount is unusual.", ("CUSTOMER_ID_AVG_AMOUNT_",)),
    "TERMINAL_VELOCITY": ("The terminal's number of transactions is unusual.", ("TERMINAL_ID_NB_TX_",)),
    "TERMINAL_RISK": ("The terminal had confirmed frauds lately.", ("TERMINAL_ID_RISK_",)),
}
_COLUMNS = {
    code: [index for index, name in enumerate(FEATURES) if name.startswith(prefixes)]
    for code, (_, prefixes) in _GROUPS.items()
}


class Reason(BaseModel):
    """One thing that speaks for fraud."""

    code: str
    words: str
    contribution: float
    """log-odds that it adds to the score"""


def reasons(contributions: Array) -> tuple[Reason, ...]:
    """The groups of features that push a score up most. `contributions`: log-odds by feature, the bias last."""
    summed = {code: float(contributions[columns].sum()) for code, columns in _COLUMNS.items()}
    up = sorted(((value, code) for code, value in summed.items() if round(value, 4) > 0), reverse=True)
    return tuple(Reason(code=code, words=_GROUPS[code][0], contribution=round(value, 4)) for value, code in up[:_MOST])
