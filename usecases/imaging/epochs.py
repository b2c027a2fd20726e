"""The training loop: early stopping, checkpoints to go on from, one process or several, bfloat16 on a GPU."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch import distributed as several
from torch.nn.parallel import DistributedDataParallel

from orrery.usecase import Progress, silent

Loss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]
"""a network (as wrapped for several processes), indices of films, a source of chance -> the loss to lower"""
Judge = Callable[[nn.Module], tuple[float, str]]
"""a network -> its loss on held-out films, and what to say of it"""
Weights = dict[str, Tensor]
_WARMING = 0.2
"""share of the training in which the learning rate rises; in the rest it falls to nothing"""
_FOLLOWED = 0.05
"""share of the training, in steps, that the mean of the weights reaches back"""


@dataclass(frozen=True)
class Plan:
    """How to train."""

    films: int
    """to learn from"""
    epochs: int
    rate: float
    """the highest learning rate"""
    seed: int
    seconds: float = math.inf
    """the learning rate falls so fast that the training ends in about so many"""
    batch: int = 32
    patience: int = 8
    """epochs without a better one after which training ends"""
    decay: float = 0.01
    checkpoint: Path | None = None
    """where it stands after each epoch; a training of the same `key` that finds it goes on from there"""
    key: str = ""
    """names the data and the plan"""


@dataclass
class Course:
    """How a training went: an entry an epoch."""

    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best(self) -> int:
        """The epoch whose network is kept."""
        return min(range(len(self.held_out)), key=self.held_out.__getitem__)


def train(
    network: nn.Module, plan: Plan, loss: Loss, judge: Judge, progress: Progress = silent, stage: str = ""
) -> Course:
    """Train a network in place; it is left as the running mean of its weights was after the best epoch.

    Under `torchrun` each process takes its part of every batch, and all end with the same weights.
    """
    run, told = _Run(network, plan), progress if first() else silent
    for epoch in range(len(run.course.losses), plan.epochs):
        if run.over:
            break
        network.train()
        lost = run.epoch(loss, torch.Generator().manual_seed(1_000 * plan.seed + epoch))
        network.load_state_dict(run.mean)
        network.eval()
        with torch.inference_mode():
            held_out, said = judge(network)
        run.judged(lost, held_out)
        told(stage, epoch + 1, plan.epochs, said)
    told(stage, plan.epochs, plan.epochs)
    network.load_state_dict(run.best)
    network.eval()
    return run.course


@contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Inside, the same seed and number of threads (0: as many as there are) give the same weights on one machine."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    gpu = torch.cuda.is_available()
    torch.set_num_threads(threads or before)
    torch.use_deterministic_algorithms(True, warn_only=gpu)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(before)


@contextmanager
def processes() -> Iterator[None]:
    """Inside, the processes that `torchrun` started train together; without it there is one."""
    if not several.is_torchelastic_launched() or several.is_initialized():
        yield
        return
    several.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        several.destroy_process_group()


class _Run:
    """A training that is under way."""

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        self.plan, self.network, self.course = plan, network, Course()
        self.wrapped = DistributedDataParallel(network) if several.is_initialized() else network
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=plan.decay)
        self.steps = math.ceil(plan.films / plan.batch)
        self.device = next(network.parameters()).device
        self.raw, self.mean, self.best = _copied(network), _copied(network), _copied(network)
        self.total = float(self.steps * plan.epochs)
        """steps in which the learning rate comes down"""
        self._resume()
        self.started = time.monotonic() - self.course.seconds

    @property
    def over(self) -> bool:
        """Nothing better came for long, or time is up."""
        course = self.course
        stale = bool(course.losses) and len(course.losses) - 1 - course.best >= self.plan.patience
        return bool(_agreed(float(stale or course.seconds >= self.plan.seconds), self.device))

    def epoch(self, loss: Loss, chance: torch.Generator) -> float:
        """Take every film once; the mean loss."""
        plan, total = self.plan, 0.0
        self.network.load_state_dict(self.raw)
        torch.manual_seed(chance.initial_seed())  # for dropout
        done = len(self.course.losses) * self.steps
        self._foresee(done)
        for step, batch in enumerate(torch.split(torch.randperm(plan.films, generator=chance), plan.batch), done):
            if len(batch) < plan.batch and self.steps > 1:
                continue  # the statistics of a few films would disturb those of all
            self._heat(step)
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                value = loss(self.wrapped, _own(batch), chance)
            value.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self._follow(step)
            total += value.item()
        self.raw = _copied(self.network)
        if several.is_initialized():  # each has seen other films' statistics
            for value in (*self.raw.values(), *self.mean.values()):
                several.broadcast(value, 0)
        return total / max(plan.films // plan.batch, 1)

    def judged(self, lost: float, held_out: float) -> None:
        """Note how an epoch went, and where everything stands."""
        self.course.losses.append(lost)
        self.course.held_out.append(held_out)
        self.course.seconds = time.monotonic() - self.started
        if self.course.best == len(self.course.losses) - 1:
            self.best = _copied(self.network)
        if self.plan.checkpoint is not None and first():
            self._keep(self.plan.checkpoint)

    def _foresee(self, done: int) -> None:
        """How many steps there will be, when time is short and `done` took what they took."""
        if done:
            left = done * self.plan.seconds / self.course.seconds
            self.total = _agreed(min(self.total, max(left, done + self.steps)), self.device)

    def _heat(self, step: int) -> None:
        """Set the learning rate: up a line, down a half cosine."""
        done = min(step / self.total, 1.0)
        warm, cold = done / _WARMING, (done - _WARMING) / (1 - _WARMING)
        share = max(warm, 0.02) if warm < 1 else 0.5 + 0.5 * math.cos(math.pi * cold)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate * share

    def _follow(self, step: int) -> None:
        """Move the mean of the weights towards where they are: quickly at first, as they are far from good."""
        reach = min(step + 1, _FOLLOWED * self.total)
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 / max(reach, 1))
            else:
                self.mean[name].copy_(value)

    def _keep(self, path: Path) -> None:
        """Put it all down, whole or not at all."""
        parts: dict[str, Weights] = {"raw": self.raw, "mean": self.mean, "best": self.best}
        for number, state in self.optimizer.state_dict()["state"].items():
            parts[f"optimizer.{number}"] = state
        values = {f"{part}/{name}": value for part, some in parts.items() for name, value in some.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        about = {"key": self.plan.key, "course": json.dumps(vars(self.course))}
        save_file({name: value.contiguous() for name, value in values.items()}, fresh, about)
        fresh.replace(path)

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one of this training."""
        path = self.plan.checkpoint
        if path is None or not path.is_file():
            return
        parts: dict[str, Weights] = {}
        with safe_open(path, "pt") as file:
            about = file.metadata()
            if about["key"] != self.plan.key:
                return
            for name in file.keys():  # noqa: SIM118  it is no mapping
                part, _, rest = name.partition("/")
                parts.setdefault(part, {})[rest] = file.get_tensor(name).to(self.device)
        self.course = Course(**json.loads(about["course"]))
        self.raw, self.mean, self.best = (parts.pop(part) for part in ("raw", "mean", "best"))
        state = {int(part.removeprefix("optimizer.")): values for part, values in parts.items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _copied(network: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _agreed(value: float, device: torch.device) -> float:
    """What the first process says, for all."""
    said = torch.tensor(value, dtype=torch.float32, device=device)
    if several.is_initialized():
        several.broadcast(said, 0)
    return float(said)


def first() -> bool:
    """Is this the process that writes files?"""
    return not several.is_initialized() or several.get_rank() == 0


def _own(batch: Tensor) -> Tensor:
    """This process's part of a batch."""
    return batch[several.get_rank() :: several.get_world_size()] if several.is_initialized() else batch
