"""The feature store (Feast): declarations, offline tables, point-in-time rows, and what goes online."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from orrery.adapters.online_layout import OnlineLayout, OnlineView, SqliteLayout
from orrery.adapters.online_store import online_path
from orrery.errors import OrreryError
from orrery.settings import Settings
from orrery.usecase import Progress, silent

MOMENT = "event_timestamp"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENTS = pa.timestamp("us", tz="UTC")  # Feast's DuckDB store refuses nanoseconds
_ROW = "__row"
_BATCH = 1_000
"""rows a materialization writes in one transaction: the gateway's writes wait for no more than that"""


class FutureDate(OrreryError):
    """A materialization up to a moment that has not come: it would hide what happens until then."""


class TableRefused(OrreryError):
    """A table is not what its view declares, or not of the moment asked for."""


class FeaturesMissing(OrreryError):
    """Rows of which the store knew nothing at their own moment."""


def repo_variables(settings: Settings) -> dict[str, str]:
    """What feature_repo/feature_store.yaml takes from the environment, for the stock `feast` command."""
    return {"FEAST_PROJECT": settings.store.project, "FEAST_FOLDER": str(settings.feature_folder)}


def repo_config(settings: Settings) -> Any:
    """Feast's configuration; feature_repo/feature_store.yaml says the same to the stock `feast` command."""
    from feast import RepoConfig

    return RepoConfig(
        project=settings.store.project,
        provider="local",
        registry=_registry(settings),
        offline_store={"type": "duckdb"},
        online_store=online_layout(settings).feast_config(),
        materialization={"online_write_batch_size": _BATCH},
        entity_key_serialization_version=3,
    )


def _registry(settings: Settings) -> dict[str, Any]:
    if not settings.store.registry:
        return {"registry_type": "sql", "path": f"sqlite:///{settings.feature_folder / 'registry.db'}"}
    from sqlalchemy import NullPool

    # Feast closes no registry, and a server that was restarted has closed what a pool still holds
    return {
        "registry_type": "sql",
        "path": settings.store.registry,
        "sqlalchemy_config_kwargs": {"poolclass": NullPool},
    }


def online_layout(settings: Settings) -> OnlineLayout:
    """The online store of these settings, for the side that materializes."""
    if settings.store.url:
        from orrery.adapters.redis_store import RedisLayout

        return RedisLayout(settings.store.url, settings.store.password_file, settings.store.project)
    return SqliteLayout(online_path(settings), settings.store.project)


def offline_folder(settings: Settings) -> Path:
    return settings.feature_folder / "offline"


def placed(declared: Sequence[Any], folder: Path) -> list[Any]:
    """Copies of Feast objects whose file sources with relative paths lie in `folder`."""
    objects = deepcopy(list(declared))
    for source in (getattr(each, "batch_source", None) for each in objects):
        if source is not None and not Path(source.path).is_absolute():
            source.file_options.uri = str(folder / source.path)
    return objects


class FeatureStore:
    """Feast, as the lifecycle uses it. One writer at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _feast(self) -> Any:
        from feast import FeatureStore as Feast

        offline_folder(self._settings).mkdir(parents=True, exist_ok=True)
        return Feast(config=repo_config(self._settings))

    def apply(self, declared: Sequence[Any]) -> None:
        """Register entities, views and services, and make the online tables ready. Repeating it changes nothing."""
        objects = placed(declared, offline_folder(self._settings))
        if not objects:
            return
        with _quietly():
            self._feast.apply(objects)
        online_layout(self._settings).prepare(_online_view(each) for each in objects if getattr(each, "online", False))

    def write_offline(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Replace the Parquet table of each view, atomically. Raises TableRefused when columns are not as declared."""
        for name, frame in tables.items():
            view = self._feast.get_feature_view(name)
            schema = _schema(view)
            if absent := set(schema.names) - set(frame.columns):
                raise TableRefused(f"the table of view {name} has no column {', '.join(sorted(absent))}")
            table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
            path = Path(view.batch_source.path)
            partial = path.with_suffix(".partial")
            pq.write_table(table, partial)
            partial.replace(path)

    def training_rows(self, use_case: str, rows: pd.DataFrame) -> pd.DataFrame:
        """`rows` with the features of the use case's service, each as of the row's own moment (point in time).

        `rows` has the entity columns and one datetime column; its other columns, order and index stay. Where a column
        has a feature's name, the feature takes its place. Raises FeaturesMissing.
        """
        service = self._feast.get_feature_service(use_case)
        views = [self._feast.get_feature_view(each.name) for each in service.feature_view_projections]
        names = [feature.name for each in service.feature_view_projections for feature in each.features]
        asked = rows[[*dict.fromkeys(key for view in views for key in view.join_keys), _moment_column(rows)]].copy()
        asked[_moment_column(rows)] = asked[_moment_column(rows)].astype("datetime64[us, UTC]")
        asked[_ROW] = np.arange(len(asked))
        with _quietly():
            known = self._feast.get_historical_features(entity_df=asked, features=service).to_df().sort_values(_ROW)
        unknown = known[names].isna().all(axis=1).to_numpy()
        if unknown.any():
            raise FeaturesMissing(
                f"{unknown.sum():,} of {len(rows):,} rows have no features at their moment, the first at row "
                f"{int(unknown.argmax())}; build the features of this data first"
            )
        kept = rows.drop(columns=[name for name in names if name in rows])
        joined: pd.DataFrame = pd.concat([kept, known[names].set_axis(rows.index)], axis=1)
        return joined

    def materialize(self, views: Sequence[str], end: datetime, progress: Progress = silent) -> None:
        """Bring the online store to the offline tables of `views`, which say what was known at `end`.

        A row is replaced by the snapshot only if all it has learned is older than the snapshot (its event time is
        before the snapshot's). A row that has learned something since then keeps it, so the log's watermark never
        goes back and a gateway may run beside this. What reaches the store out of order, or was in the log but not in
        the store when the snapshot was taken, is not told apart from what the snapshot holds.
        Repeating it changes nothing. Raises FutureDate, and TableRefused for a table of a later moment.
        """
        if end > datetime.now(UTC):
            raise FutureDate(f"{end:%Y-%m-%d %H:%M} is in the future; materialize up to now at the latest")
        moments = {name: self._snapshot_moment(name, end) for name in views}
        for done, (name, moment) in enumerate(moments.items()):
            progress("materialize", done, len(moments), name)
            if moment is None:
                continue
            with _quietly():
                self._feast.materialize(_BEGINNING, end, [name])
            online_layout(self._settings).note_materialized(name, moment)
        progress("materialize", len(moments), len(moments))

    def _snapshot_moment(self, name: str, end: datetime) -> datetime | None:
        """The moment of a view's offline table; None if it is empty."""
        path = Path(self._feast.get_feature_view(name).batch_source.path)
        if not path.is_file():
            raise TableRefused(f"the view {name} has no table; write its history of {end:%Y-%m-%d %H:%M} first")
        moment: datetime | None = pyarrow.compute.max(pq.read_table(path, columns=[MOMENT]).column(0)).as_py()
        if moment is not None and moment > end:
            raise TableRefused(
                f"the table of {name} is of {moment}, later than {end}; write its history of {end} first"
            )
        return moment


@contextmanager
def _quietly() -> Iterator[None]:
    """Feast prints, ibis calls what DuckDB deprecates, and their shared connection would keep every table it saw."""
    import ibis

    connection = ibis.duckdb.connect()
    ibis.options.default_backend = connection
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
            yield
    finally:
        ibis.options.default_backend = None
        connection.disconnect()


def _moment_column(rows: pd.DataFrame) -> str:
    """The column of the rows' moments, by Feast's own rule."""
    found = [MOMENT] if MOMENT in rows else [str(name) for name in rows.select_dtypes(["datetime", "datetimetz"])]
    if len(found) != 1:
        raise TableRefused(f"rows need one datetime column or `{MOMENT}`, not {found}")
    return found[0]


def _schema(view: Any) -> pa.Schema:
    from feast.types import from_feast_to_pyarrow_type

    columns = [*view.entity_columns, *view.features]
    return pa.schema([*((each.name, from_feast_to_pyarrow_type(each.dtype)) for each in columns), (MOMENT, _MOMENTS)])


def _online_view(view: Any) -> OnlineView:
    from feast.infra.online_stores.helpers import _mmh3

    (key,) = view.join_keys
    return OnlineView(
        view.name,
        key,
        kinds={each.name: f"{each.dtype.to_value_type().name.lower()}_val" for each in view.features},
        fields={each.name: _mmh3(f"{view.name}:{each.name}").hex() for each in view.features},
    )
