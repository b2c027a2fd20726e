"""What every use case promises about answering."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

import usecases
from orrery.usecase import Answer, Asked, RuleHit

HEAVY = {"pandas", "sklearn", "torch", "mlflow", "prefect", "feast", "optuna", "matplotlib"}


@pytest.mark.parametrize("name", usecases.names())
def test_serving_imports_nothing_heavy(name):
    code = f"import sys, json, usecases; usecases.serving({name!r}); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout))


@pytest.mark.parametrize("name", usecases.names())
def test_training_that_does_not_fit_imports_nothing_that_does(name):
    """A look every few minutes, an answer to an alert and a replay ask a Training for the rest of it."""
    code = f"import sys, json, usecases; usecases.training({name!r}); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY - {"pandas"} | {"lightgbm", "scipy"}) & set(json.loads(done.stdout))


def test_the_example_survives_json(case):
    for example in (case.serving.example, case.serving.example_feedback):
        assert type(example).model_validate_json(example.model_dump_json()) == example


def test_what_is_not_asked_for_is_refused(case):
    body = case.serving.example.model_dump(mode="json") | {"surprise": 1}
    with pytest.raises(ValidationError):
        case.serving.request.model_validate(body)


def test_an_empty_store_still_gives_inputs(case, store):
    request = case.serving.example
    inputs = case.serving.features(store.read(case.serving.keys(request)), request)
    assert inputs.dtype == np.float32
    assert inputs.ndim == 1
    assert len(inputs) >= len(case.serving.feature_names)
    assert np.isfinite(inputs).all()


def test_tags_have_a_number_each_and_a_name_that_no_feature_has(case):
    serving, tags = case.serving, case.serving.tagged(case.serving.example)
    assert (tags.dtype, tags.shape) == (np.float32, (len(serving.tags),))
    assert np.isfinite(tags).all()
    assert len(set(serving.logged)) == len(serving.logged)


def test_the_fallback_is_honest(case):
    asked = Asked(case.serving.example, (), case.serving.default_rules, {})
    answer = case.serving.fallback(asked, None)
    assert isinstance(answer, Answer)
    assert answer.degraded
    assert answer.model_version is None


def test_rules_have_a_version_and_are_quiet_about_the_example(case):
    assert case.serving.default_rules["version"]
    assert all(isinstance(hit, RuleHit) for hit in case.serving.rules(case.serving.example, case.serving.default_rules))


def test_example_and_feedback_name_the_same_event(case):
    assert case.serving.identity(case.serving.example) == case.serving.identity(case.serving.example_feedback)
