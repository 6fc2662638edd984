"""Networks of which fused copies once differed: drawn by the property test, then made as small as they are here."""

from __future__ import annotations

from tests.fusion.random_networks import Program, Step


def _sequential(*modules: str) -> str:
    return f"def network():\n    return nn.Sequential({', '.join(modules)})"


def _block(modules: list[str], *lines: str) -> str:
    held = [f"        self.m{i} = {module}" for i, module in enumerate(modules)]
    head = ["class Block(nn.Module):", "    def __init__(self):", "        super().__init__()", *held]
    body = ["    def forward(self, h):", *(f"        {line}" for line in lines), "        return h"]
    return "\n".join([*head, *body, "def network():", "    return Block()"])


def _program(
    source: str,
    *steps: str,  # statements, then the kind
    shape: tuple[int, ...] = (4, 3, 4, 4),
    layout: str = "contiguous",
    dtype: str = "float64",
    leaf: bool = True,
    before: tuple[str, ...] = (),
) -> Program:
    taken = (Step(tuple(changes), kind) for *changes, kind in (step.split("; ") for step in steps))
    return Program(source, shape, layout, dtype, leaf, before, tuple(taken))


FOUND = {
    # The gradient of a gradient went through the input of a norm into the weight of the same norm once more.
    "a norm twice, in a penalty": _program(
        _sequential("shared := nn.BatchNorm2d(3)", "nn.ReLU()", "shared", "nn.SiLU()"), "penalty", "network.eval(); r1"
    ),
    "a convolution twice, in a penalty": _program(
        _sequential("shared := nn.Conv2d(3, 3, 1)", "nn.SiLU()", "shared", "nn.PReLU()"), "penalty", leaf=False
    ),
    # The hooks of tensors ran in the gradient and in the gradient of the gradient.
    "a hook on a parameter, in a penalty": _program(
        _sequential("nn.Conv2d(3, 3, 1)", "nn.BatchNorm2d(3)", "nn.Tanh()"),
        "norm(network, 0).weight.register_hook(doubled); penalty",
        "r1",
        leaf=False,
    ),
    "a hook on the gradient of the norm's input": _program(
        _sequential("nn.Conv2d(3, 3, 1)", "nn.BatchNorm2d(3)", "nn.Tanh()"),
        "handles.append(layer(network, 0).register_full_backward_hook(backward_halved)); penalty",
    ),
    # PyTorch takes the strides of x.view_as(x), for a batch of one, for those of another layout.
    "a batch of one, in a penalty": _program(
        _sequential("nn.ConvTranspose2d(3, 5, 1)", "nn.BatchNorm2d(5)", "nn.Sigmoid()"),
        "penalty",
        shape=(1, 3, 4, 4),
        layout="channels_last",
    ),
    # Results were laid out as the input where PyTorch's are contiguous.
    "a view after BatchNorm1d": _program(
        _block(["nn.BatchNorm1d(3)", "nn.ReLU()"], "h = self.m1(self.m0(h))", "h = h.view(h.size(0), -1)"),
        "loss",
        shape=(4, 3, 5),
        layout="channels_last",
    ),
    "a view after an instance norm": _program(
        _block(["nn.InstanceNorm2d(3)", "nn.ReLU()"], "h = self.m1(self.m0(h))", "h = h.view(h.size(0), -1)"),
        "loss",
        layout="channels_last",
    ),
    "the input of an instance norm overwritten": _program(
        _block(["nn.Conv2d(3, 3, 1)", "nn.InstanceNorm2d(3)", "nn.ReLU()"],
               "s = self.m0(h)", "h = self.m2(self.m1(s))", "s *= 2", "h = h + s"),
        "loss",
        layout="channels_last",
    ),
    # Errors were the op's, of another type than PyTorch's.
    "a norm of other channels": _program(_sequential("nn.BatchNorm2d(2)", "nn.ReLU()"), "loss", "no_grad"),
    "a slope for each of other channels": _program(_sequential("nn.BatchNorm2d(3)", "nn.PReLU(2)"), "loss", "no_grad"),
    "slopes of other channels after a convolution": _program(
        _sequential("nn.Conv2d(3, 3, 1)", "nn.PReLU(2)"), "loss", "no_grad"
    ),
    "an input of another dtype": _program(
        _sequential("nn.InstanceNorm2d(3, affine=True)", "nn.ReLU()"), "loss", dtype="wrong float32"
    ),
    "an eps of 0": _program(_sequential("nn.BatchNorm2d(3, eps=0.0)", "nn.ReLU()"), "loss", "network.eval(); loss"),
    # The counter of batches was behind: a checkpoint stops its second forward at the last tensor that is kept.
    "a checkpoint": _program(
        _sequential("nn.Conv2d(3, 3, 1)", "nn.BatchNorm2d(3, momentum=None)", "nn.SiLU()"), "checkpoint", "loss"
    ),
}  # fmt: skip
