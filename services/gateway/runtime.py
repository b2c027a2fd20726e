"""What a running gateway is made of, opened and closed in the right order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from orrery.adapters.api_keys import ApiKeys, KeyRing, KeysUnavailable
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.log_spool import open_log
from orrery.adapters.log_writer import LogWriter
from orrery.adapters.model_source import LastGood, ModelCatalogue
from orrery.adapters.online_store import OnlineStore, open_online_store
from orrery.adapters.prediction_log import LogReader
from orrery.adapters.report_log import ReportLog
from orrery.adapters.torchserve import TorchServe, is_configured
from orrery.adapters.watch_log import WatchLog
from orrery.errors import TransientError
from orrery.learning import Learner
from orrery.prediction import Predictor
from orrery.settings import Settings
from orrery.telemetry import GatewayMetrics
from orrery.usecase import Serving
from services.gateway.follower import Follower
from services.gateway.limits import Places
from services.gateway.observer import Observer
from services.gateway.rule_book import RuleBook

logger = logging.getLogger(__name__)


@dataclass
class Runtime:
    """The parts that endpoints use."""

    metrics: GatewayMetrics
    places: Places
    keys: KeyRing
    log: LogReader
    writer: LogWriter
    predictors: Mapping[str, Predictor]
    observer: Observer
    catalogue: ModelCatalogue
    reports: ReportLog
    draining: bool = False


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(settings: Settings, servings: Mapping[str, Serving]) -> AsyncIterator[Runtime]:
    """Open everything, catch up with the log, serve what was good last, and follow the catalogue. Closes in reverse."""
    metrics = GatewayMetrics()
    engine = open_database(settings.log_url, settings.log.durable)
    store = open_online_store(settings)
    failed = metrics.dependency_errors.labels("log", "unavailable").inc
    log = open_log(engine, settings.home / "spool.db", _learned(store, servings), failed)
    metrics.log_spooled_rows.set_function(lambda: log.spooled)
    learner = Learner(servings, log.own_reader(), store, partial(_not_learned, metrics))
    learner.catch_up(servings)
    writer = LogWriter(log, after_commit=learner.catch_up)
    writer.start()
    ring = KeyRing(ApiKeys(engine))
    ring.refresh()
    catalogue, server = ModelCatalogue(settings), _model_server(settings, metrics)
    with ThreadPoolExecutor(2, "feature-reads") as reads, ThreadPoolExecutor(2, "twins") as twins:
        predictors = {
            name: Predictor(name, serving, store, writer, log.reader(), metrics.of(name), threads, now, models)
            for name, serving in servings.items()
            for threads, models in ((twins, server) if serving.runtime == "model_server" else (reads, None),)
        }
        places = Places(settings.gateway.inflight, settings.gateway.queue_ms, metrics)
        followers = _followers(settings, predictors, catalogue)
        observer = Observer(predictors, followers, WatchLog(engine), AuditLog(settings), now)
        reports = ReportLog(engine)
        runtime = Runtime(metrics, places, ring, log.reader(), writer, predictors, observer, catalogue, reports)
        watchers = [*await _watchers(settings, runtime, followers), *observer.tasks(), _keep_learning(learner, writer)]
        tasks = [asyncio.create_task(each) for each in watchers]
        try:
            yield runtime
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await catalogue.close()
            if server is not None:
                await server.close()
            await asyncio.to_thread(writer.close)
    store.close()
    engine.dispose()


def _not_learned(metrics: GatewayMetrics, kind: str) -> None:
    metrics.dependency_errors.labels("learning", kind).inc()


def _followers(
    settings: Settings, predictors: Mapping[str, Predictor], catalogue: ModelCatalogue
) -> Mapping[str, Follower]:
    return {
        name: Follower(predictor, catalogue, LastGood(settings.models_folder / name), now)
        for name, predictor in predictors.items()
    }


def _model_server(settings: Settings, metrics: GatewayMetrics) -> TorchServe | None:
    if not is_configured(settings):
        return None
    server = TorchServe(settings)
    metrics.breaker_state.labels("model_server").set_function(lambda: server.spared)
    return server


async def _watchers(
    settings: Settings, runtime: Runtime, followers: Mapping[str, Follower]
) -> list[Coroutine[Any, Any, None]]:
    seconds, watchers = settings.gateway.poll_seconds, [_keep_keys(runtime.keys)]
    for name, predictor in runtime.predictors.items():
        runtime.metrics.deadline.labels(name).set(predictor.serving.deadline_ms / 1_000)
        book = RuleBook(settings.home / "rules" / f"{name}.json", predictor)
        book.refresh()
        await followers[name].start()
        watchers += [followers[name].run(seconds), _keep_rules(book, seconds)]
    return watchers


async def _keep_rules(book: RuleBook, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        book.refresh()


async def _keep_learning(learner: Learner, writer: LogWriter) -> None:
    """A store that was away catches up when it is back, also when no request comes."""
    while True:
        await asyncio.sleep(1)
        if learner.behind:
            writer.nudge(set(learner.behind))


async def _keep_keys(ring: KeyRing) -> None:
    while True:
        await asyncio.sleep(1)
        if ring.stale():
            with suppress(KeysUnavailable):  # the keys it has stay good until the table is back
                await asyncio.to_thread(ring.refresh)


def _learned(store: OnlineStore, servings: Mapping[str, Serving]) -> int:
    """The last row of the log that the store has learned; a store that is away now is asked again at every commit."""
    try:
        return max((store.applied(name) for name in servings), default=0)
    except TransientError as error:
        logger.warning("the online store is away at the start: %s", error)
        return 0
