"""Configurations are frozen dataclasses; this turns what a user wrote into one, or says what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """An instance of the dataclass `cls` from `values`; whole numbers become floats and lists tuples where asked.

    `owner` names the dataclass in errors ("system dcgan"). An unknown key raises ValueError with the nearest keys,
    a value of the wrong type TypeError.
    """
    hints = typing.get_type_hints(cls)
    accepted = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in accepted:
            raise ValueError(f"{owner} has no option {key!r}{nearest(key, accepted)}. Accepted: {', '.join(accepted)}")
    return cls(**{key: _convert(value, hints[key], f"{owner}: {key}") for key, value in values.items()})


# What other programs call the options of runs and systems.
SYNONYMS = {
    "steps": ("epoch", "epochs", "n_epochs", "num_epochs", "niter", "iters", "iterations", "max_steps", "num_steps"),
    "batch_size": ("bs", "batch", "batchsize", "n_batch"),
    "learning_rate": ("lr", "lr_rate", "lrate", "g_lr", "lr_g", "rate"),
    "discriminator_learning_rate": ("d_lr", "lr_d"),
    "discriminator_steps": ("n_critic", "ncritic", "d_steps"),
    "discriminator_width": ("ndf", "d_width"),
    "betas": ("beta", "beta1", "beta2", "b1", "b2"),
    "latent": ("nz", "z_dim", "zdim", "z", "latent_dim", "latent_size", "noise_dim"),
    "width": ("ngf", "nf", "ngf_dim", "base_channels"),
    "channels": ("nc", "in_channels", "n_channels"),
    "classes": ("num_classes", "n_classes"),
    "resolution": ("img_size", "image_size", "imsize", "imagesize", "size", "res"),
    "data": ("dataset", "dataroot", "data_dir", "data_path", "root"),
    "out": ("output", "outdir", "out_dir", "output_dir", "outf", "save_dir", "name", "o"),
    "device": ("gpu", "gpus", "cuda"),
    "workers": ("num_workers", "n_workers", "nworkers"),
    "precision": ("amp", "fp16", "half", "bf16", "dtype"),
    "ema": ("ema_decay",),
    "resume": ("checkpoint", "load", "restore", "netg"),
    "init_from": ("pretrained", "weights", "finetune"),
    "r1": ("gamma", "r1_gamma"),
    "count": ("n", "num", "n_samples", "num_samples"),
}


def known_as(word: str) -> str:
    """The name of an option that other programs call so, or the word itself."""
    word = word.lower().replace("-", "_")
    return next((name for name, words in SYNONYMS.items() if word in words), word)


def nearest(word: str, known: Iterable[str]) -> str:
    """ " (did you mean a or b?)", or nothing where no known word comes near."""
    known = list(known)
    if (name := known_as(word)) in known:
        return f" (did you mean {name}?)"
    matches = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def from_text(cls: type, texts: Mapping[str, str], owner: str) -> dict[str, Any]:
    """Values of fields of the dataclass `cls` from what a command line has of them, as `build` takes them.

    What a field's type takes decides: `none` is text to one that takes text, and nothing to one that may be None.
    Numbers, true and false, none or null, and 0.5,0.9 or [0.5, 0.9] for several. ValueError for an unknown key.
    """
    hints = typing.get_type_hints(cls)
    for key in texts:
        if key not in hints:
            raise ValueError(f"{owner} has no option {key!r}{nearest(key, hints)}. Accepted: {', '.join(hints)}")
    return {key: _from_text(text.strip(), hints[key]) for key, text in texts.items()}


def _from_text(text: str, hint: Any) -> Any:
    """The text itself where it is nothing of that type, so that `build` says what is wrong."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("none", "null", "~"):
            return None
        values = [_from_text(text, argument) for argument in arguments if argument is not type(None)]
        return next((value for value in values if not isinstance(value, str)), text)
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[]").split(",")]
        return tuple(_from_text(part, arguments[0]) for part in parts if part)
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if hint in (int, float):
        with contextlib.suppress(ValueError):
            return hint(text)
    return text


def refuse(config: Any, reason: str, *options: str) -> None:
    """ValueError where one of these options, which the system inherits but has no use for, was given."""
    for field in dataclasses.fields(config):
        if field.name in options and getattr(config, field.name) != field.default:
            raise ValueError(f"{field.name} has no part here: {reason}. Leave it at {field.default!r}")


def _convert(value: Any, hint: Any, what: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, tuple | list) and len(value) == len(arguments):
        return tuple(_convert(item, argument, what) for item, argument in zip(value, arguments))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        *first, last = [argument for argument in arguments if argument is not type(None)]
        for argument in first:
            with contextlib.suppress(TypeError):
                return _convert(value, argument, what)
        return _convert(value, last, what)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to Python, but width=True is a mistake.
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise TypeError(f"{what} must be {_describe(hint)}, not {value!r}")


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"{len(typing.get_args(hint))} values ({', '.join(_describe(part) for part in typing.get_args(hint))})"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_describe(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        return "a mapping of names to values"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names.get(hint, str(hint))
