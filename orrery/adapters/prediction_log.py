"""The prediction log: every answer and every label, in one sequence, in SQL. It is the truth; the rest is derived."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    FromClause,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
    func,
    null,
    select,
    union_all,
)
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import cause, reader
from orrery.errors import TransientError

metadata = MetaData()
IDENTITY_CHARACTERS = 128
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

predictions = Table(
    "predictions",
    metadata,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
    Column("prediction_id", String(32), nullable=False, unique=True),
    Column("use_case", String(64), nullable=False),
    Column("identity", String(IDENTITY_CHARACTERS), nullable=False),
    Column("event_time", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("model_version", Text),
    Column("run_id", Text),
    Column("digest", Text),
    Column("data_version", Text),
    Column("git_commit", Text),
    Column("variant", Text, nullable=False),
    Column("degraded", Boolean, nullable=False),
    Column("degraded_reason", Text),
    Column("rules_version", Text, nullable=False),
    Column("score", Float),
    Column("request", Text, nullable=False),
    Column("features", Text),
    Column("sources", Text, nullable=False),
    Column("outputs", Text),
    Column("answer", Text, nullable=False),
    UniqueConstraint("use_case", "identity"),
)
labels = Table(
    "labels",
    metadata,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
    Column("use_case", String(64), nullable=False),
    Column("identity", String(IDENTITY_CHARACTERS), nullable=False),
    Column("subject", String(IDENTITY_CHARACTERS), nullable=False, server_default=""),
    Column("label", Float, nullable=False),
    Column("arrived_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("feedback", Text, nullable=False),
    Index("labels_by_event", "use_case", "identity", "sequence"),
)
INDICES = (
    Index("predictions_by_event_time", predictions.c.use_case, predictions.c.event_time),
    # without these two, SQLite finds the rows after a sequence among all of a use case
    Index("predictions_by_sequence", predictions.c.use_case, predictions.c.sequence),
    Index("labels_by_sequence", labels.c.use_case, labels.c.sequence),
)
"""those that tables of an older version lack"""
probes = Table("probes", metadata, Column("id", Integer, primary_key=True), Column("recorded_at", BigInteger))


class LogUnavailable(TransientError):
    """The prediction log cannot be read or written now."""


@dataclass(frozen=True)
class PredictionRecord:
    """One answer. Times are microseconds since the epoch; texts are JSON unless they are names."""

    table: ClassVar[Table] = predictions
    prediction_id: str
    use_case: str
    identity: str
    event_time: int
    recorded_at: int
    model_version: str | None
    run_id: str | None
    digest: str | None
    data_version: str | None
    git_commit: str | None
    variant: str
    degraded: bool
    degraded_reason: str | None
    rules_version: str
    score: float | None
    """the output whose distribution is watched"""
    request: str
    features: str | None
    """name -> value, as the model saw them"""
    sources: str
    """feature view -> status and event time"""
    outputs: str | None
    answer: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.table.name, self.use_case, self.identity)


@dataclass(frozen=True)
class LabelRecord:
    """One label. The latest one of an event's subject counts; saying the same again adds nothing."""

    table: ClassVar[Table] = labels
    use_case: str
    identity: str
    label: float
    arrived_at: int
    recorded_at: int
    feedback: str
    subject: str = ""
    """what of the event it is about, where one event can have several labels"""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.table.name, self.use_case, self.identity, self.subject)


@dataclass(frozen=True)
class Logged:
    """A prediction as the log has it, with the latest label of its event."""

    sequence: int
    record: PredictionRecord
    label: float | None
    label_arrived_at: int | None


Connect = Callable[[], AbstractContextManager[Connection]]


class LoggedEvent(NamedTuple):
    """What the online store can learn from one row of the log: a request, or a feedback and its request if known."""

    sequence: int
    request: str | None
    feedback: str | None


class LogReader:
    """Looks things up in the log. Every call raises LogUnavailable when the database does not answer.

    `connect`: how to come to a connection, where it is not simply one of the engine's.
    """

    def __init__(self, engine: Engine, connect: Connect | None = None) -> None:
        self._connect = connect or reader(engine).connect

    def by_id(self, prediction_id: str) -> Logged | None:
        """The prediction of that id."""
        return next(self._logged(_with_label().where(predictions.c.prediction_id == prediction_id)), None)

    def by_identity(self, use_case: str, identity: str) -> Logged | None:
        """The prediction of the event that the client calls `identity`."""
        found = _with_label().where(predictions.c.use_case == use_case, predictions.c.identity == identity)
        return next(self._logged(found), None)

    def latest(self, use_case: str) -> Logged | None:
        """The newest prediction of a use case."""
        newest = _with_label().where(predictions.c.use_case == use_case).order_by(predictions.c.sequence.desc())
        return next(self._logged(newest.limit(1)), None)

    def since(self, use_case: str, sequence: int = 0, limit: int = 1_000) -> list[Logged]:
        """Up to `limit` predictions of a use case after `sequence`, in order."""
        after = _with_label().where(predictions.c.use_case == use_case, predictions.c.sequence > sequence)
        return list(self._logged(after.order_by(predictions.c.sequence).limit(limit)))

    def events(self, use_case: str, sequence: int = 0, limit: int = 500) -> list[LoggedEvent]:
        """Up to `limit` predictions and labels of a use case after `sequence`, in order."""
        values = {"use_case": use_case, "after": sequence, "most": limit}
        return [LoggedEvent._make(row) for row in self._rows(_EVENTS, values)]

    def labelled(self, use_case: str, after: int, until: int) -> int:
        """How many events with after < time <= until, microseconds since the epoch, have a label."""
        moment = predictions.c.event_time
        later = and_(predictions.c.use_case == use_case, moment > after, moment <= until)
        told = select(labels.c.sequence).where(_same_event(labels, predictions)).exists()
        [row] = self._rows(select(func.count()).select_from(predictions).where(later, told))
        return int(row[0])

    def last(self) -> int:
        """The sequence of the latest row; 0 when there is none."""
        return max(row[0] or 0 for row in self._rows(LAST))

    def _logged(self, query: Select[Any]) -> Iterator[Logged]:
        for row in self._rows(query):
            values = row._mapping
            record = PredictionRecord(**{each.name: values[each.name] for each in fields(PredictionRecord)})
            yield Logged(values["sequence"], record, values["label"], values["arrived_at"])

    def _rows(self, query: Any, values: Mapping[str, object] | None = None) -> Sequence[Row[Any]]:
        try:
            with self._connect() as connection:
                return connection.execute(query, values).all()
        except DBAPIError as error:
            raise LogUnavailable(f"the prediction log cannot be read: {cause(error)}") from error


def _same_event(left: FromClause, right: FromClause) -> Any:
    return and_(left.c.use_case == right.c.use_case, left.c.identity == right.c.identity)


def with_latest_label(*columns: Any) -> Select[Any]:
    """Those columns of predictions and of the latest label of each one's event."""
    later = labels.alias()
    latest = select(func.max(later.c.sequence)).where(_same_event(later, predictions)).scalar_subquery()
    return select(*columns).select_from(predictions.outerjoin(labels, labels.c.sequence == latest))


def _with_label() -> Select[Any]:
    return with_latest_label(predictions, labels.c.label, labels.c.arrived_at)


def _events() -> Any:
    def after(table: Table) -> Any:
        return and_(table.c.use_case == bindparam("use_case"), table.c.sequence > bindparam("after"))

    asked = select(predictions.c.sequence, predictions.c.request, null().label("feedback")).where(after(predictions))
    told = (
        select(labels.c.sequence, predictions.c.request, labels.c.feedback)
        .select_from(labels.outerjoin(predictions, _same_event(labels, predictions)))
        .where(after(labels))
    )
    return union_all(asked, told).order_by("sequence").limit(bindparam("most", type_=Integer))


_EVENTS = _events()
LAST = union_all(select(func.max(predictions.c.sequence)), select(func.max(labels.c.sequence)))
