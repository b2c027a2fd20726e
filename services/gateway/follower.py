"""Keeps one use case on the version that the catalogue calls champion. A bundle that is not right never answers."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from orrery.adapters.model_server import LoadedModel, check_golden, load_model
from orrery.adapters.model_source import CatalogueUnavailable, LastGood, ModelCatalogue, Registered
from orrery.bundle import BundleRefused
from orrery.prediction import Predictor
from orrery.recording import Served
from orrery.usecase import Model, Scored, Serving

logger = logging.getLogger(__name__)
ALIAS = "champion"


def examined(use_case: str, serving: Serving, folder: Path) -> LoadedModel:
    """Load a bundle, compare its golden answers and answer with it. Raises BundleRefused when anything is not right."""
    model = load_model(folder)
    manifest = model.manifest
    names = tuple(feature.name for feature in manifest.features)
    if manifest.use_case != use_case:
        raise BundleRefused(f"the bundle is of {manifest.use_case}, not of {use_case}")
    if names != serving.feature_names:
        raise BundleRefused(f"the bundle's features are not those of {use_case}: {names}")
    try:
        check_golden(model, serving.score, serving.tolerance)
        for row in np.asarray(manifest.golden.inputs, dtype=np.float32)[:3]:
            outputs = serving.score(model, row[None, :])
            serving.respond(Scored(serving.example, (), serving.default_rules, {}, row, outputs, model))
    except BundleRefused:
        raise
    except Exception as error:
        raise BundleRefused(f"the bundle cannot answer: {error!r}") from error
    return model


class Follower:
    """Watches the alias of one use case and swaps the bundle that its predictor answers with."""

    def __init__(
        self, predictor: Predictor, catalogue: ModelCatalogue, last_good: LastGood, clock: Callable[[], datetime]
    ) -> None:
        self._predictor = predictor
        self._catalogue = catalogue
        self._last_good = last_good
        self._clock = clock
        self._rejected: Registered | None = None
        self._away = False
        self.champion: str | None = None
        """the version that the catalogue named last; None: it named none"""
        self.asked_at: datetime | None = None
        """when it last answered"""

    async def start(self) -> None:
        """Answer with what was good last, so that a start does not need the catalogue."""
        found = self._last_good.current()
        if found is None:
            return
        registered, folder = found
        try:
            model = await self._examine(folder)
        except BundleRefused as error:
            self._say_refused(registered, error)  # this copy only: the catalogue's may be good
        else:
            self._serve(model, registered, "cache")

    async def run(self, seconds: float) -> None:
        """Look every `seconds`, for ever."""
        while True:
            try:
                await self.check()
            except Exception:
                logger.exception("%s: following the catalogue failed", self._predictor.name)
                self._predictor.metrics.load("failed")
            await asyncio.sleep(seconds)

    async def check(self) -> None:
        """Look once, and swap when the alias points elsewhere."""
        name, metrics = self._predictor.name, self._predictor.metrics
        try:
            found = await self._catalogue.version(name, ALIAS)
        except CatalogueUnavailable as error:
            metrics.failed("catalogue", "unavailable")
            self._note_away(error)
            return
        self._note_away(None)
        self.champion, self.asked_at = found.version if found else None, self._clock()
        behind = (found.version, found.passed) if found else None
        metrics.polled(ALIAS, behind, self.asked_at.timestamp())
        if found is not None and found != self._rejected:
            await self._follow(found)

    async def _follow(self, found: Registered) -> None:
        served = self._predictor.served
        if served is not None and (served.digest, served.version, served.source) == (
            found.digest, found.version, "registry"
        ):  # fmt: skip
            return
        if served is not None and served.digest == found.digest:
            self._serve(served.model, found, "registry")
            await asyncio.to_thread(self._last_good.keep, found)
            return
        try:
            model = await self._fetch(found)
        except CatalogueUnavailable as error:
            self._predictor.metrics.load("unavailable")
            self._note_away(error)
        except BundleRefused as error:
            self._rejected = found
            self._say_refused(found, error)
        else:
            self._serve(model, found, "registry")
            await asyncio.to_thread(self._last_good.keep, found)

    async def _fetch(self, found: Registered) -> LoadedModel:
        incoming = await asyncio.to_thread(self._last_good.empty_folder)
        bundle = await self._catalogue.download(found, incoming)
        return await self._examine(await asyncio.to_thread(self._last_good.adopt, bundle))

    async def _examine(self, folder: Path) -> LoadedModel:
        return await asyncio.to_thread(examined, self._predictor.name, self._predictor.serving, folder)

    def _serve(self, model: Model, found: Registered, source: str) -> None:
        served = Served(model, found.version, found.run_id, found.digest, source)
        before, self._predictor.served = self._predictor.served, served
        self._rejected = None
        metrics, manifest = self._predictor.metrics, served.model.manifest
        metrics.load("served")
        metrics.serves(
            version=served.version,
            run_id=served.run_id,
            digest=served.digest,
            source=source,
            device=model.device,
            trained=manifest.created_at.timestamp(),
            now=self._clock().timestamp(),
        )
        logger.info(
            "%s: version %s answers now (%s), before it %s",
            self._predictor.name, served.version, source, before.version if before else "none",
        )  # fmt: skip

    def _say_refused(self, found: Registered, error: BundleRefused) -> None:
        self._predictor.metrics.load("rejected")
        logger.error("%s: version %s is refused: %s", self._predictor.name, found.version, error)

    def _note_away(self, error: CatalogueUnavailable | None) -> None:
        """Say it once when the catalogue goes and once when it is back, not at every look."""
        if (error is not None) != self._away:
            self._away = error is not None
            logger.warning("%s: the catalogue is %s", self._predictor.name, error or "back")
