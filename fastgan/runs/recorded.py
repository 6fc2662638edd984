"""What a trained system does with latents, recorded: a file that runs without FastGAN.

.pt2    of torch.export: `torch.export.load(file).module()(latent)`; in PyTorch alone
.onnx   for ONNX Runtime and what else reads ONNX; the inputs are called `latent` and `labels`, the output `images`

Both take any number of latents at a time. A conditional system takes labels, (N,) int64, as second input.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn

from fastgan import strict_json
from fastgan.systems import System

INSIDE = "fastgan.json"  # the description's name in a .pt2 file


class Drawing(nn.Module):
    """`system.generate` as the forward of a module that holds what generates, and nothing else of the system."""

    def __init__(self, system: System, example: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.generate = system.generate
        called: set[str] = set()
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: called.add(name.partition(".")[0]))
            for name, module in system.named_modules()
            if name
        ]
        with torch.no_grad():
            self.generate(*example)
        for hook in hooks:
            hook.remove()
        for name, child in system.named_children():
            if name in called:
                self.add_module(name, child)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.generate(latent, labels)


def pt2(system: System, record: dict[str, Any]) -> bytes:
    """A file of torch.export, with the description `record` in it. `system`: on the CPU, not used afterwards."""
    buffer = io.BytesIO()
    torch.export.save(_exported(system), buffer, extra_files={INSIDE: strict_json.dumps(record, indent=2)})
    return buffer.getvalue()


def onnx(system: System, record: dict[str, Any]) -> bytes:
    """A file of torch.onnx.export, with the description `record` in its metadata. ImportError where packages lack."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"ONNX files need a package that is missing ({error}): pip install onnx onnxscript"
        ) from error
    inputs = ["latent", "labels"][: 2 if system.classes else 1]
    program = torch.onnx.export(
        _exported(system), dynamo=True, verbose=False, input_names=inputs, output_names=["images"]
    )
    assert program is not None
    program.model.metadata_props["fastgan"] = strict_json.dumps(record)
    return program.model_proto.SerializeToString()


def _exported(system: System) -> Any:
    """The ExportedProgram of a system's `generate`, for any number of latents."""
    system.freeze()
    system.eval().requires_grad_(False)
    latent = system.latent(2, torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch")
    example: tuple[Tensor, ...] = (latent,)
    if system.classes:
        example = latent, torch.arange(2) % system.classes
    with torch.no_grad():
        return torch.export.export(Drawing(system, example), example, dynamic_shapes=[{0: batch} for _ in example])
