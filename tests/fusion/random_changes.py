"""What people do to a network between its steps, as statements about `network`."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

_HOOKED = ("norm", "act", "layer", "child")

CHANGES = {
    "modes": ("network.eval()", "network.train()", "norm(network, {i}).eval()", "norm(network, {i}).train()",
              "child(network, {i}).eval()"),
    "settings": (
        "norm(network, {i}).eps = 0.3", "norm(network, {i}).momentum = 0.9", "norm(network, {i}).momentum = None",
        "norm(network, {i}).momentum = 0", "norm(network, {i}).track_running_stats = False",
        "tracked(norm(network, {i}))", "norm(network, {i}).reset_running_stats()",
        "norm(network, {i}).running_mean = None\nnorm(network, {i}).running_var = None",
        "uncounted(norm(network, {i}))", "norm(network, {i}).weight = None",
        "norm(network, {i}).bias = None", "norm(network, {i}).bias.data.mul_(2)",
        "norm(network, {i}).weight = nn.Parameter(norm(network, {i}).weight.detach() * 2)",
        "norm(network, {i}).momentum = 1.5", "norm(network, {i}).eps = 0.0",
        "act(network, {i}).negative_slope = 0.7", "act(network, {i}).negative_slope = -0.3",
        "act(network, {i}).inplace = True", "act(network, {i}).inplace = False", "act(network, {i}).alpha = 0.3",
        "act(network, {i}).weight.data.neg_()", "layer(network, {i}).bias = None",
        "layer(network, {i}).bias = nn.Parameter(torch.ones_like(layer(network, {i}).bias))",
        "layer(network, {i}).weight.data.mul_(0.5)", "network.load_state_dict(network.state_dict())",
        "layer(network, {i}).bias.data = layer(network, {i}).bias.data * 2",
    ),
    "frozen": (
        "norm(network, {i}).weight.requires_grad_(False)", "norm(network, {i}).requires_grad_(False)",
        "layer(network, {i}).weight.requires_grad_(False)", "layer(network, {i}).bias.requires_grad_(False)",
        "layer(network, {i}).requires_grad_(False)", "network.requires_grad_(False)", "network.requires_grad_(True)",
        "act(network, {i}).requires_grad_(False)",
    ),
    "structure": (
        "swap(network, norm(network, {i}), like(norm(network, {i}), eps=0.3))",
        "swap(network, norm(network, {i}), nn.GroupNorm(1, norm(network, {i}).num_features))",
        "swap(network, norm(network, {i}), nn.Identity())", "swap(network, act(network, {i}), nn.Tanh())",
        "swap(network, act(network, {i}), nn.LeakyReLU(0.4))", "swap(network, act(network, {i}), nn.GELU())",
        "swap(network, act(network, {i}), nn.Identity())", "swap(network, act(network, {i}), nn.PReLU())",
        "swap(network, layer(network, {i}), copy.deepcopy(layer(network, {i})))",
        "swap(network, layer(network, {i}), nn.Sequential(layer(network, {i}), nn.Tanh()))",
        "swap(network, child(network, {i}), nn.Identity())", "swap(network, norm(network, {i}), Doubled())",
        "network.append(nn.Tanh())", "network.insert(1, nn.Tanh())", "network.pop(-1)", "del network[1]",
        "network = copy.deepcopy(network)", "network = fuse(network)", "network = unfuse(network)",
        "network.to(memory_format=torch.channels_last)", "norm(network, {i}).forward = torch.tanh",
        "act(network, {i}).forward = torch.tanh", "network.extra = nn.Tanh()", "network.train = network.train",
        "norm(network, {i}).__class__ = Twice[type(norm(network, {i}))]",
    ),
    "hooks": (
        *(f"handles.append({m}(network, {{i}}).register_forward_hook(shifted))" for m in _HOOKED),
        *(f"handles.append({m}(network, {{i}}).register_forward_hook(recorded))" for m in _HOOKED),
        *(f"handles.append({m}(network, {{i}}).register_forward_pre_hook(halved))" for m in _HOOKED),
        *(f"handles.append({m}(network, {{i}}).register_full_backward_hook(backward_halved))" for m in _HOOKED),
        *(f"handles.append({m}(network, {{i}}).register_full_backward_pre_hook(backward_tripled))" for m in _HOOKED),
        "handles.append(network.register_forward_hook(recorded))", "handles.pop().remove()", "handles.pop(0).remove()",
        "handles.append(nn.modules.module.register_module_forward_hook(recorded))",
        "handles.append(nn.modules.module.register_module_forward_pre_hook(activations_halved))",
        "norm(network, {i}).weight.register_hook(doubled)", "layer(network, {i}).weight.register_hook(doubled)",
    ),
    "wrapping": (
        "spectral_norm(layer(network, {i}))", "weight_norm(layer(network, {i}))",
        "weight_norm(norm(network, {i}), dim=None)",
        "nn.utils.parametrize.remove_parametrizations(layer(network, {i}), 'weight')",
        "nn.utils.spectral_norm(layer(network, {i}))", "weight_norm(layer(network, {i}), 'bias', dim=None)",
        "nn.utils.remove_spectral_norm(layer(network, {i}))", "nn.utils.remove_weight_norm(layer(network, {i}))",
    ),
    "resampling": (
        "up(network, {i}).scale_factor = 3.0", "up(network, {i}).mode = 'bilinear'",
        "up(network, {i}).mode = 'nearest'",
        "up(network, {i}).scale_factor = 2", "up(network, {i}).align_corners = True",
        "pool(network, {i}).ceil_mode = True", "pool(network, {i}).kernel_size = 3", "pool(network, {i}).stride = 1",
        "pool(network, {i}).padding = 1", "pool(network, {i}).divisor_override = 5", "pool(network, {i}).stride = None",
        "layer(network, {i}).padding = (0, 0)", "layer(network, {i}).stride = (2, 2)",
        "layer(network, {i}).padding_mode = 'reflect'", "layer(network, {i}).dilation = (2, 2)",
        "layer(network, {i}).bias = None", "layer(network, {i}).weight.data = layer(network, {i}).weight.data[..., :1]",
        "swap(network, up(network, {i}), nn.Upsample(scale_factor=2, mode='bilinear'))",
        "swap(network, pool(network, {i}), nn.MaxPool2d(2))", "swap(network, pool(network, {i}), nn.Identity())",
        "swap(network, layer(network, {i}), copy.deepcopy(layer(network, {i})))",
        "handles.append(up(network, {i}).register_forward_hook(recorded))",
        "handles.append(pool(network, {i}).register_forward_hook(shifted))",
        "layer(network, {i}).bias = nn.Parameter(layer(network, {i}).bias.detach().float())",
        "pool(network, {i}).forward = torch.tanh", "network.to(memory_format=torch.channels_last)",
    ),
    "attributes": (
        "network.scale = 2.0", "network.flag = True", "network.slope = 0.6", "network.index = 1", "network.calls = 3",
        "network.activation = torch.tanh", "network.shift = torch.full((), 2.0)", "network.act1 = nn.Tanh()",
        "network.absent = 2.0", "globals()['SCALE'] = 3.0",
    ),
}  # fmt: skip


def _of(network: nn.Module, i: int, kinds: Any) -> Any:
    found = [m for m in network.modules() if m is not network and isinstance(m, kinds)]
    return found[i % len(found)]


def norm(network: nn.Module, i: int) -> Any:
    return _of(network, i, nn.modules.batchnorm._NormBase)


def act(network: nn.Module, i: int) -> Any:
    return _of(network, i, (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.SiLU))


def layer(network: nn.Module, i: int) -> Any:
    return _of(network, i, (nn.modules.conv._ConvNd, nn.Linear))


def up(network: nn.Module, i: int) -> Any:
    return _of(network, i, nn.Upsample)


def pool(network: nn.Module, i: int) -> Any:
    return _of(network, i, nn.AvgPool2d)


def child(network: nn.Module, i: int) -> Any:
    return _of(network, i, nn.Module)


def swap(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` where `old` is, under the first name only."""
    for parent in network.modules():
        for name, module in parent._modules.items():
            if module is old:
                setattr(parent, name, new.train(old.training).double())
                return


def like(old: Any, **settings: Any) -> nn.Module:
    return type(old)(old.num_features, **settings)


def tracked(module: Any) -> None:
    """SyncBatchNorm alone asserts that there is a counter."""
    module.track_running_stats = type(module) is not nn.SyncBatchNorm or module.num_batches_tracked is not None


def uncounted(module: Any) -> None:
    if type(module) is not nn.SyncBatchNorm:
        module.num_batches_tracked = None


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2


class _Twice:
    def forward(self, x):
        return super().forward(x) * 2  # type: ignore[misc]


def recorded(module, args, output):
    log.append((type(module).__name__, tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)))


def shifted(module, args, output):
    return output + 0.3 if isinstance(output, torch.Tensor) else None


def halved(module, args):
    return (args[0] * 0.5,)


def activations_halved(module, args):
    return (args[0] * 0.5,) if isinstance(module, (nn.ReLU, nn.Tanh, nn.LeakyReLU)) else None


def backward_halved(module, grad_input, grad_output):
    return tuple(None if g is None else g * 0.5 for g in grad_input)


def backward_tripled(module, grad_output):
    return tuple(None if g is None else g * 3 for g in grad_output)


def doubled(grad):
    return grad * 2


log: list[Any] = []  # of the calls that `recorded` saw
handles: list[Any] = []
SCALE = 2.0


def names() -> dict[str, Any]:
    """What the text of a network and the statements about it may name."""
    log.clear()
    norms = (*(getattr(nn, f"{k}Norm{r}d") for k in ("Batch", "Instance") for r in (1, 2, 3)), nn.SyncBatchNorm)
    twice = {kind: type(kind.__name__, (_Twice, kind), {}) for kind in norms}
    return {**globals(), "Twice": twice, "__name__": "drawn", "log": log, "handles": handles}


__all__ = ["CHANGES", "F", "checkpoint", "copy", "names", "spectral_norm", "weight_norm"]
