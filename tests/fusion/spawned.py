"""What test_copies runs in a process of its own."""

from __future__ import annotations

import torch


def compute(network: torch.nn.Module, x: torch.Tensor, folder: str) -> None:
    torch.set_num_threads(1)
    from tests.fusion.comparing import run
    from tests.fusion.test_copies import places

    for name, model in (("argument", network), ("file", torch.load(f"{folder}/model.pt", weights_only=False))):
        torch.save((run(model, x), places(model)), f"{folder}/{name}.pt")
