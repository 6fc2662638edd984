"""What a trained system does, recorded: a file that runs without FastGAN.

.pt2    of torch.export: `torch.export.load(file).module()(latent)`; in PyTorch alone
.onnx   for ONNX Runtime and what else reads ONNX; the output is called `images`

Both take any number of rows at a time. The inputs are those of `System.recording`: `latent`, and of a conditional
system `labels`, (N,) int64; or the `images` that are to be translated.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastgan import strict_json
from fastgan.systems import System

INSIDE = "fastgan.json"  # the description's name in a .pt2 file


class Recorded(nn.Module):
    """A function of a system as the forward of a module that holds what it calls, and nothing else of the system."""

    def __init__(self, system: System, function: Callable[..., Tensor], example: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.function = function
        called: set[str] = set()
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: called.add(name.partition(".")[0]))
            for name, module in system.named_modules()
            if name
        ]
        with torch.no_grad():
            self.function(*example)
        for hook in hooks:
            hook.remove()
        for name, child in system.named_children():
            if name in called:
                self.add_module(name, child)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


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
    inputs = list(system.recording()[1])
    program = torch.onnx.export(
        _exported(system), dynamo=True, verbose=False, input_names=inputs, output_names=["images"]
    )
    assert program is not None
    program.model.metadata_props["fastgan"] = strict_json.dumps(record)
    return program.model_proto.SerializeToString()


def _exported(system: System) -> Any:
    """The ExportedProgram of what a system records, for any number of rows."""
    system.freeze()
    system.eval().requires_grad_(False)
    function, inputs = system.recording()
    example, batch = tuple(inputs.values()), torch.export.Dim("batch")
    rows = (tuple({0: batch} for _ in example),)
    with torch.no_grad():
        return torch.export.export(Recorded(system, function, example), example, dynamic_shapes=rows)
