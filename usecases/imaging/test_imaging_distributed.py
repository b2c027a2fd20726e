"""Two processes under torchrun train as one does on the same batches."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from orrery.usecase import Budget, Fitted, silent
from usecases.imaging.epochs import Plan, first, processes, repeatable, train
from usecases.imaging.metrics import measure
from usecases.imaging.model import fit
from usecases.imaging.scoring import score
from usecases.imaging.tables import inputs
from usecases.imaging.test_imaging_model import films, sealed, split_of

ROOT = Path(__file__).parents[2]
BUDGET = Budget(trials=1, seconds=float("inf"), seed=5, threads=1)


def of_a_line(folder: Path) -> torch.Tensor:
    """A network without a statistic of its batch, on the same films everywhere: its weights."""
    chance = torch.Generator().manual_seed(0)
    films_ = torch.randn(64, 6, generator=chance)
    wanted = (films_ @ torch.randn(6, 1, generator=chance)).tanh()
    plan = Plan(films=64, epochs=6, rate=0.05, seed=1, batch=16, checkpoint=folder / "line.safetensors")
    with processes(), repeatable(1, 1):
        network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        train(
            network, plan, lambda wrapped, batch, _: ((wrapped(films_[batch]) - wanted[batch]) ** 2).mean(),
            lambda current: (float(((current(films_) - wanted) ** 2).mean()), ""),
        )  # fmt: skip
        if first():
            np.save(folder / "line.npy", network[0].weight.detach().numpy())
    return network[0].weight.detach()


def of_films(folder: Path) -> Fitted:
    """The whole fit, on rows that lie in the folder."""
    return fit(split_of(pd.read_parquet(folder / "rows.parquet"), 40, 16), BUDGET, silent, folder / "bundle")


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    rows = films(80)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows.to_parquet(tmp_path / name / "rows.parquet")
    line, fitted = of_a_line(tmp_path / "one"), of_films(tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "usecases.imaging.test_imaging_distributed", str(tmp_path / "two")],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]

    np.testing.assert_allclose(np.load(tmp_path / "two" / "line.npy"), line.numpy(), rtol=1e-4, atol=1e-5)
    files = {path.name for path in (tmp_path / "two" / "bundle").iterdir()}
    assert files == {path.name for path in (tmp_path / "one" / "bundle").iterdir()}
    other = Fitted(tmp_path / "two" / "bundle", json.loads((tmp_path / "two" / "learned.json").read_text()), {}, {}, {})
    test = split_of(rows, 40, 16).test
    one, two = (score(sealed(each), inputs(test)) for each in (fitted, other))
    aucs = [measure(test, said)(np.ones(len(test)))["auc"] for said in (one, two)]
    assert min(aucs) > 0.7
    assert abs(aucs[0] - aucs[1]) < 0.15
    both = 2 * (one["mask"] & two["mask"]).sum() / (one["mask"].sum() + two["mask"].sum())
    assert both > 0.9


def main(folder: Path) -> None:
    """What each process under torchrun does."""
    with processes():  # once a process: torchrun's store does not let it join again
        of_a_line(folder)
        fitted = of_films(folder)
    if fitted.plots:  # only the first process draws
        (folder / "learned.json").write_text(json.dumps(dict(fitted.learned)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
