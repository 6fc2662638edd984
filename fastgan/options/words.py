"""What other programs call the options of runs and systems, and what a misspelled one may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
