"""The rules an operator has written for a use case: a JSON file, read again when it changes."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrery.errors import OrreryError
from orrery.prediction import Predictor

logger = logging.getLogger(__name__)


class RulesRefused(OrreryError):
    """The file is not a rule set of that use case."""


class RuleBook:
    """Gives a predictor the rules in `path`, or the use case's own while there is no such file."""

    def __init__(self, path: Path, predictor: Predictor) -> None:
        self._path = path
        self._predictor = predictor
        self._seen: tuple[int, int] | None = None

    def refresh(self) -> None:
        """Read the file if it changed. A bad one is counted and said; the rules before it stay."""
        found = self._stamp()
        if found == self._seen:
            return
        self._seen = found
        try:
            rules = self._predictor.serving.default_rules if found is None else self._read()
        except RulesRefused as error:
            logger.warning("the rules before it stay: %s", error)
            self._predictor.metrics.failed("rules", "refused")
        else:
            self._predictor.rules = rules
            logger.info("%s: rules of version %s apply", self._predictor.name, rules["version"])

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size

    def _read(self) -> Mapping[str, Any]:
        serving = self._predictor.serving
        try:
            rules: Mapping[str, Any] = json.loads(self._path.read_bytes())
            if set(rules) != set(serving.default_rules) or not rules["version"]:
                raise RulesRefused(f"{self._path}: a rule set has exactly {', '.join(sorted(serving.default_rules))}")
            serving.rules(serving.example, rules)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RulesRefused(f"{self._path} is not a rule set: {error!r}") from error
        return rules
