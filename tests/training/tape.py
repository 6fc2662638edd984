"""A recorder for the CPU with the rules of a CUDA graph, so that what a graph would get wrong shows without a GPU.

A tape holds every operation of a function with the very tensors that it read and wrote. Recording changes nothing: what
it computed is taken back. A replay repeats the operations and runs no Python of the function, so that a number which
Python had, an input that was not copied or a random number from elsewhere stays what it was in the recording. What the
recording made is NaN before each replay, and reading a value on the host is an error, as on a GPU.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "bincount"}
HOST = {"tolist", "cpu", "numpy", "item", "__bool__", "__float__", "__int__", "__array__"}


class Tape:
    def __init__(self):
        self.operations = []
        self.made = []  # tensors with memory of their own
        self.memory = set()  # of those

    @torch.no_grad()
    def poison(self):
        for tensor in map(once, self.made):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
            else:
                tensor.fill_(True if tensor.dtype is torch.bool else 77)

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)  # the casts are on the tape
    def replay(self):
        self.poison()
        for operation, args, named, results in self.operations:
            for kept, new in zip(results, tensors(operation(*args, **named))):
                if address(kept) != address(new):
                    once(kept).copy_(once(new))
        kinds = {operation._schema.name for operation, *_ in self.operations}
        assert kinds  # an empty tape would agree with anything


class Recording(TorchDispatchMode):
    def __init__(self, tape, generators):
        super().__init__()
        self.tape = tape
        self.generators = generators
        self.seen = {}  # tensors of before, and what they held

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        named = kwargs or {}
        name = operation._schema.name.split("::")[1]
        if name in WAITS or (name == "index" and any(t.dtype in (torch.bool, torch.uint8) for t in tensors(args[1]))):
            raise RuntimeError(f"operation not permitted while recording: {name} waits for the device")
        if name == "lift_fresh":
            raise RuntimeError("operation not permitted while recording: a tensor of numbers from the host")
        for value in (*args, *named.values()):
            if isinstance(value, torch.Generator) and not any(
                torch.equal(value.get_state(), known.get_state()) for known in self.generators
            ):
                raise RuntimeError("a generator draws that is not registered with the graph")
        # Whatever an operation reads, not only what its schema says it writes: batch normalisation's does not.
        for tensor in tensors((args, named)):
            if address(tensor) not in self.tape.memory and id(tensor) not in self.seen:
                self.seen[id(tensor)] = once(tensor), once(tensor.detach()).clone()
        given = {address(tensor) for tensor in tensors((args, named))}
        result = operation(*args, **named)
        results = tensors(result)
        for tensor in results:
            if address(tensor) not in given and tensor.numel():
                self.tape.made.append(tensor)
                self.tape.memory.add(address(tensor))
        self.tape.operations.append((operation, args, named, results))
        return result


class NoHost(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in HOST and function is not torch.Tensor.is_floating_point:
            raise RuntimeError(f"operation not permitted while recording: Tensor.{function.__name__}")
        return function(*args, **(kwargs or {}))


class TapeRecorder:
    """`tapes`: of all recordings so far.   `host`: tensors that stand for those on the host of a real device."""

    tapes: list
    host: list

    def __init__(self, device):
        type(self).tapes, type(self).host = [], []

    def warm(self, function):
        return function()

    def record(self, function, generators):
        tape = Tape()
        drawn = [torch.default_generator, *generators]
        states = [generator.get_state() for generator in drawn]
        recording = Recording(tape, drawn)
        try:
            with NoHost(), recording:
                result = function()
        finally:
            with torch.no_grad():
                for tensor, held in reversed(recording.seen.values()):
                    if self.defers(tensor) and not torch.equal(tensor, held):
                        tensor.copy_(held)
            for generator, state in zip(drawn, states):
                generator.set_state(state)
        tape.poison()
        self.tapes.append(tape)
        return tape, result

    def defers(self, tensor):
        return not any(tensor is other or tensor.data_ptr() == other.data_ptr() for other in self.host)


def tensors(value):
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def once(tensor):
    """Every element once, where an expanded tensor has it many times."""
    for dim, stride in enumerate(tensor.stride()):
        tensor = tensor.narrow(dim, 0, 1) if stride == 0 and tensor.shape[dim] > 1 else tensor
    return tensor


def address(tensor):
    return tensor.untyped_storage().data_ptr()
