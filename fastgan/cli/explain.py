"""fastgan explain: what fuse finds in a network that a file makes, and what it leaves alone."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "fastgan explain models/dcgan.py:Discriminator"


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="show what fuse replaces in a network of yours, and what not and why",
        description='Makes a network, fuses it and says where. Code under `if __name__ == "__main__"` does not run.',
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument(
        "network",
        metavar="FILE:FACTORY",
        help="a Python file or the name of a module that can be imported; in it a torch.nn.Module, or a function or "
        "class that gives one without arguments (dotted names too)",
    )
    parser.add_argument(
        "--input",
        metavar="N,C,H,W",
        action="append",
        default=[],
        help="run it once on an input of this shape, and say at which places the kernel runs; again for a further one",
    )
    parser.add_argument("--channels-last", action="store_true", help="network and input in this layout")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    shapes = [_shape(text) for text in args.input]
    with contextlib.redirect_stdout(sys.stderr):  # what the file prints is not part of the report
        network = load(args.network)
    import torch

    from fastgan import explain, fuse

    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    if args.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a row says it
        fuse(network)
        with _one_line(f"running {args.network} on {' and '.join(args.input)}") if inputs else contextlib.nullcontext():
            report = explain(network, *inputs)
    print(report.to_json() if args.json else report)
    return 0


def _shape(text: str) -> list[int]:
    try:
        shape = [int(size) for size in text.replace("x", ",").split(",")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1:
        raise ValueError(f"--input takes the sizes of a tensor, as --input 64,3,64,64, not {text!r}")
    return shape


def load(source: str) -> nn.Module:
    """The network that "FILE:FACTORY" names. ValueError with one line where there is none."""
    file, _, name = source.rpartition(":")
    if not file or not name:
        raise ValueError(f"{source!r} is not FILE:FACTORY; write it as in `{EXAMPLE}`")
    from torch import nn

    with _importable(file):
        made = _find(_imported(file), file, name)
        if not isinstance(made, nn.Module):
            made = _called(made, f"{file}:{name}")
    if not isinstance(made, nn.Module):
        raise ValueError(f"{source} gave an object of type {type(made).__name__}, not a torch.nn.Module")
    return made


@contextlib.contextmanager
def _importable(file: str) -> Iterator[None]:
    """As under `python FILE`: its folder can be imported from, and it sees no arguments of ours."""
    folder = str(Path(file).resolve().parent) if _is_path(file) else os.getcwd()
    arguments, sys.argv = sys.argv, [file]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv = arguments
        with contextlib.suppress(ValueError):  # the file may have changed the list
            sys.path.remove(folder)


def _is_path(file: str) -> bool:
    return file.endswith(".py") or os.sep in file


def _imported(file: str) -> ModuleType:
    path = Path(file)
    if not _is_path(file):
        with _one_line(f"importing {file}"):
            try:
                return importlib.import_module(file)
            except ModuleNotFoundError as error:
                if not error.name or not f"{file}.".startswith(f"{error.name}."):
                    raise  # something that it imports is missing
        raise ValueError(f"no module {file!r} can be imported here; for a file write {file}.py")
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, _files_in(path.parent), 1)
        raise ValueError(f"no file {file}" + (f"; did you mean {path.with_name(near[0])}.py?" if near else ""))
    name = path.stem if path.stem not in sys.modules else f"_explained_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file (.py)")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _one_line(f"running {file}"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _files_in(folder: Path) -> list[str]:
    try:
        return [entry.stem for entry in folder.iterdir() if entry.suffix == ".py"]
    except OSError:
        return []


def _find(module: ModuleType, file: str, name: str) -> Any:
    found: Any = module
    for i, part in enumerate(parts := name.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("__")])
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"{':'.join(filter(None, (file, '.'.join(parts[:i]))))} has no {part}{hint}") from None
    return found


def _called(factory: Any, source: str) -> Any:
    if not callable(factory):
        raise ValueError(
            f"{source} is of type {type(factory).__name__}; it must be a torch.nn.Module, or a function or class that "
            "gives one"
        )
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables in C have none
        parameters = {}.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        name = source.rpartition(":")[2]
        raise ValueError(
            f"{source} needs arguments ({', '.join(needed)}); add a function without any to the file, such as "
            f"`def network(): return {name}(...)`, and name that"
        )
    with _one_line(f"calling {source}"):
        return factory()


@contextlib.contextmanager
def _one_line(doing: str) -> Iterator[None]:
    """Turns what the user's code raises into a ValueError of one line; the traceback stays in its cause."""
    try:
        yield
    except SystemExit as error:
        raise ValueError(f"{doing} ended the program with exit code {error.code}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{doing} raised {type(error).__name__}{': ' if text else ''}{text}") from error
