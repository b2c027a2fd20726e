"""What a use case must say about itself: how it is served and how it is trained."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orrery.watching import Watching

if TYPE_CHECKING:
    import pandas as pd
    from fastapi import APIRouter, Request

    from orrery.bundle import Manifest

Made = TypeVar("Made")
Array = NDArray[Any]
Outputs = Mapping[str, Array]
"""What a model says of n rows: output name -> array whose first axis is n."""

FeatureStatus = Literal["present", "missing", "stale", "unavailable"]
Runtime = Literal["in_process", "model_server"]


# --- the online store, as a use case sees it -------------------------------------------------


@dataclass(frozen=True)
class Key:
    """One entity's row in one feature view."""

    view: str
    entity: int | str


@dataclass(frozen=True)
class Stored:
    """The latest values of one `Key`. A missing key has no values and no event time."""

    values: Mapping[str, Any]
    """feature -> scalar, or a 1-d numpy array for a list feature"""
    event_time: datetime | None
    status: FeatureStatus


@dataclass(frozen=True)
class Update:
    """New values of one `Key`; replaces all values of that key."""

    key: Key
    values: Mapping[str, Any]
    event_time: datetime


StoredByKey = Mapping[Key, Stored]


# --- a model, as a use case sees it -----------------------------------------------------------


class Model(Protocol):
    """A loaded, verified bundle."""

    @property
    def manifest(self) -> "Manifest": ...

    @property
    def device(self) -> str:
        """What it runs on: cpu, cuda."""

    def run(self, file: str, inputs: Array) -> list[Array]:
        """Run the ONNX graph in `file` on rows of float32, shape (n, inputs)."""

    def contributions(self, file: str, inputs: Array) -> Array:
        """TreeSHAP of the LightGBM text model in `file`: shape (n, inputs + 1), log-odds, the bias last."""

    def text(self, file: str) -> str:
        """The verified content of a text file of the bundle."""

    def array(self, file: str) -> Array:
        """The verified numbers of a .npy file of the bundle, read-only."""

    def path(self, file: str) -> Path:
        """Where a verified file of the bundle lies, for a library that reads it by itself."""

    def derived(self, name: str, make: "Callable[[Model], Made]") -> Made:
        """What `make` makes of the bundle, made when it is first asked for and kept under that name."""


# --- requests and answers -----------------------------------------------------------------------

Arrival = Annotated[AwareDatetime, Field(default_factory=lambda: datetime.now(UTC))]
"""An event's time that a client may leave out: it is then the moment of arrival."""


class Answer(BaseModel):
    """What every prediction says about itself; a use case adds its own fields."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    prediction_id: str = ""
    model_version: str | None = None
    """None when no model answered"""
    variant: str = "champion"
    degraded: bool = False
    degraded_reason: str | None = None
    feature_status: dict[str, FeatureStatus] = {}
    """feature view -> how its values were found"""


@dataclass(frozen=True)
class RuleHit:
    """A rule that fired on one request."""

    rule: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Asked:
    """What is known of one request before any model has seen it."""

    request: BaseModel
    hits: tuple[RuleHit, ...]
    rules: Mapping[str, Any]
    """the rule set that applies"""
    stored: StoredByKey
    """empty when the store did not answer"""


@dataclass(frozen=True)
class Scored(Asked):
    """Everything known of one request when its answer is made."""

    inputs: Array
    """float32: what `Serving.features` made of it"""
    outputs: Outputs
    model: Model
    device: str = "cpu"
    """what the outputs were computed on"""


class Desk(Protocol):
    """What the gateway lends to the endpoints that a use case brings itself. Usable while the gateway runs."""

    @property
    def folder(self) -> Path:
        """Where the use case may keep what it must: a folder of its own, for nobody else's eyes."""

    @property
    def secret(self) -> bytes:
        """32 bytes that only this installation knows, the same at every start."""

    def now(self) -> datetime:
        """This moment, UTC."""

    async def allow(self, request: "Request", verb: str) -> str:
        """Check that the caller's key may do `verb` (predict, feedback, read) here; returns the name of the key."""

    async def predict(self, event: BaseModel) -> Mapping[str, Any]:
        """Answer an event as POST /v1/<use case>/predict does: bounded, logged, counted; the answer's fields."""

    async def feedback(self, event: BaseModel) -> Mapping[str, Any]:
        """Take a feedback as POST /v1/<use case>/feedback does: bounded, logged, counted; what is acknowledged."""

    async def logged(self, prediction_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """The request and the answer of a prediction made here, or None."""

    async def record(self, who: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
        """Write who did what to the use case's audit log, on the disk before this returns."""

    def count(self, event: str, outcome: str) -> None:
        """One more in `use_case_events_total`."""

    def level(self, what: str, value: float) -> None:
        """How much there is now, in `use_case_level`: a queue's length, the age of its oldest."""


@dataclass(frozen=True)
class Serving:
    """The online half: a typed request in, a typed answer out, inside a deadline."""

    request: type[BaseModel]
    response: type[Answer]
    feedback: type[BaseModel]
    identity: Callable[[BaseModel], str]
    """the client's own id of the event, of a request or a feedback: the same id is answered the same and logged once"""
    moment: Callable[[BaseModel], datetime]
    """the event's time, aware UTC"""
    keys: Callable[[BaseModel], Sequence[Key]]
    """what to read from the online store for a request (and, where it says enough, for a feedback)"""
    features: Callable[[StoredByKey, BaseModel], Array]
    """stored values + request -> the model's inputs, float32: one value a name of `feature_names`, in that order, and
    after them, where a model sees more than has a name (a history, an image), its payload"""
    feature_names: tuple[str, ...]
    score: Callable[[Model, Array], Outputs]
    """rows of inputs, shape (n, inputs) -> outputs; the same function evaluates, gates and serves"""
    respond: Callable[[Scored], Answer]
    fallback: Callable[[Asked, Model | None], Answer]
    """an honest answer when features or model are gone; the model is given if it is there"""
    learn: Callable[[BaseModel, StoredByKey], Sequence[Update]]
    """what the event itself teaches the online store"""
    learn_label: Callable[[BaseModel, BaseModel | None, StoredByKey], Sequence[Update]]
    """feedback, the request it belongs to (None if it was not served here), stored values -> what the store learns"""
    label: Callable[[BaseModel], float]
    """the truth a feedback carries"""
    label_arrival: Callable[[BaseModel], datetime]
    rules: Callable[[BaseModel, Mapping[str, Any]], tuple[RuleHit, ...]]
    """request, rule set -> the rules that fired"""
    default_rules: Mapping[str, Any]
    """the rule set used until an operator writes another; has a "version" """
    example: BaseModel
    """a valid request: documents the endpoint, and the contract tests start from it"""
    example_feedback: BaseModel
    deadline_ms: int
    monitored_output: str = "score"
    """the output whose distribution is watched"""
    tags: tuple[str, ...] = ()
    """what is known of an event that no model gets: logged, stored and watched beside the features"""
    tagged: Callable[[BaseModel], Array] = lambda _: np.empty(0, np.float32)
    """request -> float32, one finite value a name of `tags`, in that order"""
    subject: Callable[[BaseModel], str] = lambda _: ""
    """what of the event a feedback is about, where one event can have several; the latest of each subject counts"""
    objection: Callable[[BaseModel, Mapping[str, Any] | None], str | None] = lambda *_: None
    """feedback, the answer it names (None: none was given here) -> why it cannot be about that answer, if so"""
    runtime: Runtime = "in_process"
    """who runs `score`: this process, or the model server with this process as its twin"""
    tolerance: float = 1e-6
    """the most that an output may differ between two machines, or between the model server and its twin"""
    body_bytes: int = 0
    """the largest body that its endpoints read; 0: as large as the gateway reads anyway"""
    endpoints: "Callable[[Desk], APIRouter] | None" = None
    """endpoints of its own, beside or instead of the usual two"""
    paths: tuple[str, ...] = ()
    """where these lie when not under /v1/<use case>"""

    @property
    def logged(self) -> tuple[str, ...]:
        """What the log and the feature store have of an event by name: features, then tags."""
        return (*self.feature_names, *self.tags)


# --- training -----------------------------------------------------------------------------------


class Progress(Protocol):
    """Where long work says how far it is."""

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None: ...


def silent(stage: str, done: float, total: float, note: str = "") -> None:
    """The progress nobody watches."""


@dataclass(frozen=True)
class SourceRequest:
    """Which raw data to read: a built-in source, or a file of the user's own."""

    source: str
    path: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """our column -> the file's column, where they differ"""
    sample: bool = False
    """a small set of the same shape, for tests and first looks"""


@dataclass(frozen=True)
class Budget:
    """How much a search may cost."""

    trials: int
    seconds: float
    seed: int = 7
    threads: int = 0
    """0: all cores"""


@dataclass(frozen=True)
class Window:
    """What was known at `as_of`: labels only once they had arrived; `days` long is the training part."""

    as_of: datetime
    days: int


@dataclass(frozen=True)
class Split:
    """Rows by what they may be used for, each later than the one before, the label delay kept between them."""

    train: "pd.DataFrame"
    folds: tuple[tuple["pd.DataFrame", "pd.DataFrame"], ...]
    """(train, validation) pairs inside `train`, for the search; the last one's validation also calibrates"""
    test: "pd.DataFrame"
    usual: "pd.DataFrame | None" = None
    """all that came while the test rows did, which the watch compares traffic with; None: these are all"""


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves: files of the bundle in a folder, and what the manifest and the run must know."""

    folder: Path
    learned: Mapping[str, Any]
    """goes into `Manifest.learned`: calibration, thresholds, vocabularies"""
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    """of the search and the ablations; the test metrics come from `evaluate`"""
    plots: Mapping[str, Path]
    """name -> PNG"""


@dataclass(frozen=True)
class Gate:
    """What a candidate must be, as data; `orrery.gate` does the judging."""

    floors: Mapping[str, float]
    """metric -> the least it may be, first release included"""
    ceilings: Mapping[str, float]
    """metric -> the most it may be"""
    compare: tuple[str, ...]
    """metrics that may not be worse than the champion's beyond the paired interval"""
    latency_ms: float
    """the most one row may take, features to answer, median"""
    no_worse: tuple[str, ...] = ()
    """metrics that are differences to a baseline, and may not be below 0 beyond their interval"""


KnownRows = Callable[[Sequence[str]], "pd.DataFrame"]
"""columns -> these of the raw rows that are known without what was served; none where nothing is"""


@dataclass(frozen=True)
class Training:
    """The offline half: raw data in, a judged candidate out."""

    sources: Mapping[str, Callable[[SourceRequest, Progress], "pd.DataFrame"]]
    """source name -> reader; the first is the default"""
    validate: Callable[["pd.DataFrame"], "pd.DataFrame"]
    """refuses bad data with row and column, returns it in canonical types and order"""
    describe: Callable[["pd.DataFrame"], Mapping[str, int]]
    """counts to print: rows, positives"""
    identity: str
    """raw column that names a row; entity of the offline feature view"""
    moment: str
    """raw column with the event time, datetime64[us, UTC]"""
    target: str
    label_delay: timedelta
    unit: str
    """column that bootstrap resamples by (a card, a user, a patient)"""
    features: Callable[["pd.DataFrame"], Mapping[str, "pd.DataFrame"]]
    """raw rows -> offline tables by feature view: what was known at each row's own moment"""
    history: Callable[["pd.DataFrame", datetime], Mapping[str, "pd.DataFrame"]]
    """raw rows, moment -> what the online store holds at that moment, by feature view, one row per entity"""
    split: Callable[["pd.DataFrame", Window], Split]
    fit: Callable[[Split, Budget, Progress, Path], Fitted]
    measure: Callable[["pd.DataFrame", Outputs], Callable[[Array], Mapping[str, float]]]
    """rows, outputs -> a function of row weights (bootstrap counts, shape (n,)) -> metrics"""
    plots: Callable[["pd.DataFrame", Outputs, Path], Mapping[str, Path]]
    """drawn for the evaluated rows: name -> PNG"""
    requests: Callable[["pd.DataFrame"], Sequence[tuple[datetime, Literal["predict", "feedback"], BaseModel]]]
    """raw rows -> the events a client would send, in event order: predictions, and labels when they arrive"""
    gate: Gate
    replay_from: datetime
    """where a demo trains up to (`as_of`) and starts its replay"""
    train_days: int
    schedule: str
    """cron, UTC, of the release"""
    budget: Budget
    sample_gate: Gate | None = None
    """in place of `gate` for what learned from the small set, whose numbers are others"""
    watching: Watching = field(default_factory=Watching)
    held_back: timedelta = timedelta(0)
    """the age, beyond the label delay, that a row has at `as_of` before it is learned from: younger ones judge"""
    collected: "Callable[[Iterable[BaseModel], Iterable[BaseModel], KnownRows], pd.DataFrame] | None" = None
    """answered requests, all feedback, each in the order of the log, and what is known besides -> raw rows to learn"""
    asked: "Callable[[pd.DataFrame, Sequence[BaseModel]], Mapping[str, pd.DataFrame]] | None" = None
    """raw rows, requests -> `features` of the requests, one row each, where a request is not a raw row itself"""
    drifts: "Mapping[str, Callable[[pd.DataFrame, str], pd.DataFrame]]" = field(default_factory=dict)
    """name -> raw rows and a value as typed -> the rows as they would be in a changed world"""
    replay_rate: float = 150.0
    """events a second that a demo replays: predictions, and labels that arrive meanwhile"""
    judged: "Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame] | None" = None
    """rows of a window with features, all raw rows until its end -> the rows to measure a model on, where not each is
    one; `split` gives its own"""
    inputs: "Callable[[pd.DataFrame], Array] | None" = None
    """rows with features -> the model's inputs, where these are more than the named features"""
    react: Callable[[BaseModel, Mapping[str, Any]], Sequence[BaseModel]] | None = None
    """request, answer -> the feedback that simulated clients give during a replay"""
    online: Callable[[Sequence[Mapping[str, Any]], Sequence[BaseModel]], Mapping[str, float]] | None = None
    """answers of a replay, feedback sent -> figures of what was served"""
    off_policy: Callable[[Sequence[Mapping[str, Any]], Sequence[BaseModel], str], Mapping[str, Array]] | None = None
    """answers, feedback to them, a target policy's name -> the arguments of `off_policy.evaluate`"""

    def inputs_of(self, rows: "pd.DataFrame", names: Sequence[str]) -> Array:
        """The model's inputs, float32, shape (n, inputs); the first columns are the features `names`."""
        return self.inputs(rows) if self.inputs else rows[list(names)].to_numpy(np.float32)


@dataclass(frozen=True)
class Case:
    """A whole use case: its name, both halves, and what it declares to the feature store."""

    name: str
    training: Training
    serving: Serving
    views: Sequence[Any] = ()
