"""What a checkpoint holds of a training, and a training that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.runs.run import versions
from fastgan.training.step import load_optimizer

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """To be called in all processes at once."""
    return {
        "config": trainer.config.plain(),
        "data": trainer.data,
        "versions": versions(),
        "step": trainer.step,
        "system": trainer.system.state_dict(),
        "ema": trainer.ema.state_dict() if trainer.ema else None,
        "optimizers": {phase.name: phase.optimizer.state_dict() for phase in trainer.train_step.phases},
        "scalers": {name: scaler.state_dict() for name, scaler in trainer.train_step.scalers.items()},
        "batches": trainer.feed.batches.state_dict(),
        "random": trainer.streams.state_dict(),
        "ranks": trainer.ranks.gather({name: held.cpu() for name, held in trainer.system.rank_state().items()}),
        "probe": dict(trainer.probe),
        "logged": trainer.means.state_dict(),
        "callbacks": trainer.hooks.state_dict(),
    }


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """ValueError, naming the checkpoint, where it does not hold what the run needs."""
    try:
        _restore(trainer, state)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{trainer.run.checkpoint} does not hold what this run needs ({error!r})") from error


def _restore(trainer: Trainer, state: dict[str, Any]) -> None:
    # Where the system has other options than it had, its optimizers keep the rates that follow from them.
    changed = state["config"]["options"] != trainer.config.plain()["options"]
    trainer.run.restore(trainer.system, state["system"])
    if trainer.ema is None:
        trainer.ema = trainer.average()
    if trainer.ema and state["ema"] is not None:
        trainer.ema.load_state_dict(state["ema"])
    for phase in trainer.train_step.phases:
        load_optimizer(phase.optimizer, state["optimizers"][phase.name], own=changed)
    for name, scaler in trainer.train_step.scalers.items():
        if name in state.get("scalers", {}):
            scaler.load_state_dict(state["scalers"][name])
    trainer.feed.batches.load_state_dict(state["batches"])
    of_rank = state["ranks"][trainer.ranks.rank % (len(state["ranks"]) or 1)]
    _give(trainer.system.rank_state(), of_rank, "a state", trainer)
    _give(trainer.probe, state["probe"], "a probe", trainer)
    trainer.means.load_state_dict(state["logged"], trainer.system.device)
    trainer.step = state["step"]
    trainer.streams.load_state_dict(state["random"], trainer.step)
    for name in trainer.hooks.load_state_dict(state["callbacks"]):
        trainer.remarks.append(f"{trainer.run.checkpoint} holds a state of the callback {name}, which is not given")
    trainer.checkpoints.found(trainer.run, trainer.step)


@torch.no_grad()
def _give(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str, trainer: Trainer) -> None:
    """To tensors their values in a checkpoint."""
    for name, tensor in own.items():
        if name == "behind" and name not in saved:  # points of the data, which checkpoints of format 2 have not
            continue
        if saved[name].shape != tensor.shape:
            raise ValueError(
                f"{trainer.run.checkpoint} has {what} for another {trainer.system.name}: {name} must be of shape "
                f"{tuple(tensor.shape)}, not {tuple(saved[name].shape)}"
            )
        tensor.copy_(saved[name])
