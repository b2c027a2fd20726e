"""A changed world, and what the platform makes of it by itself: `make loop`, with an installation of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from loops import CHANGED, TIMELINE, assert_closed, moments

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.loop, pytest.mark.timeout(1_200)]


def run(*options: str) -> dict[str, Any]:
    TIMELINE.unlink(missing_ok=True)
    done = subprocess.run(["make", "--no-print-directory", "loop", f"LOOP={' '.join(options)}"], cwd=ROOT, check=False)
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(TIMELINE.read_text())
    return found


def test_a_changed_world_leads_to_a_better_champion_without_hands():
    assert_closed(run(*CHANGED))


def test_a_candidate_of_wrong_labels_is_refused_and_the_champion_stays():
    told = run("--change", "wrong-labels=0.4", "--refused")

    first, refused, after = (
        moments(told, what)[0] for what in ("first champion", "release refused", "the champion is unchanged")
    )
    assert refused["reasons"]
    assert not moments(told, "promote")
    assert after["version"] == first["version"]
