"""Whether faster is as good: DCGAN as FastGAN trains it by default beside plain eager PyTorch in float32; which digits
each system covers; and which modes of `ring` and `grid` each loss covers.

    python benchmarks/quality.py parity [--steps 1500] [--seeds 3] [--out runs/quality]
    python benchmarks/quality.py modes [SYSTEM ...] [--seeds 3]
    python benchmarks/quality.py points [LOSS ...] [--seeds 3]

Every run is a process of its own, `fastgan train` and then `fastgan evaluate`, whose figures are printed together and
written to --json, beside those of the other commands. A run that is there already is evaluated, not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fastgan import strict_json
from fastgan.bench.timing import machine

# By name: what is added to the command line, and to the environment.
VARIANTS = {
    "fastgan, defaults": ([], {}),
    "eager, float32": (["--precision", "float32", "--no-channels-last"], {"FASTGAN_BACKEND": "torch"}),
}
DATA = {
    "digits": ["--width", "32"],
    "emoji": ["--width", "32"],
}
# What shows all digits within minutes on two cores; options that are not named are the papers'.
SMALL = ["--resolution", "16"]
SYSTEMS = {
    "gan": ["--resolution", "32", "--steps", "3000"],
    "dcgan": ["--resolution", "32", "--width", "32", "--steps", "1500"],
    "lsgan": ["--resolution", "32", "--width", "16", "--batch-size", "32", "--lr", "2e-4", "--set", "latent=100",
              "--set", "r1=1", "--steps", "2000"],
    "wgan": [*SMALL, "--width", "32", "--steps", "1500", "--lr", "2e-4"],
    "wgan-gp": ["--resolution", "32", "--width", "16", "--batch-size", "32", "--lr", "2e-4", "--steps", "1000",
                "--set", "discriminator_steps=2"],
    "sngan": ["--resolution", "32", "--width", "32", "--batch-size", "16", "--steps", "1000",
              "--set", "discriminator_width=32", "--set", "discriminator_steps=2", "--set", "decay_steps=1000"],
    "sgan": [*SMALL, "--width", "16", "--lr", "1e-3", "--batch-size", "50", "--steps", "2000"],
    "acgan": [*SMALL, "--steps", "600"],
    "began": [*SMALL, "--width", "16", "--batch-size", "16", "--lr", "1e-3", "--set", "discriminator_width=8",
              "--set", "discriminator_learning_rate=5e-4", "--set", "latent=16", "--set", "gamma=1",
              "--set", "lambda_k=0.1", "--steps", "4000"],
    "wngan": [*SMALL, "--width", "16", "--batch-size", "32", "--lr", "2e-4", "--set", "latent=32", "--set", "r1=1",
              "--steps", "4000"],
    "autoencoder": ["--resolution", "32", "--steps", "500"],
}  # fmt: skip
# Latents of two numbers, as WGAN-GP's authors take for points: of 128, a fiftieth of the points end within a mode.
POINTS = ["--resolution", "1", "--set", "latent=2", "--lr", "1e-3", "--batch-size", "256", "--steps", "6000",
          "--set", "decay_steps=6000", "--set", "decay=linear", "--precision", "float32"]  # fmt: skip
LOSSES = {
    **{
        loss: ["gan", "--set", f"loss={loss}", "--width", "32", "--set", "discriminator_width=64",
               "--set", "discriminator_steps=3"]
        for loss in ("non_saturating", "minimax", "least_squares", "hinge", "relativistic")
    },
    "wgan-gp": ["wgan-gp", "--width", "128", "--set", "penalty=0.1"],
    "sngan": ["sngan", "--width", "128", "--set", "discriminator_width=128"],
}  # fmt: skip
LOSSES["wasserstein, r1"] = [*LOSSES["hinge"], "--set", "loss=wasserstein", "--set", "r1=0.1", "--set", "r1_every=1"]


def run(out: Path, arguments: list[str], environment: dict[str, str] | None = None) -> dict[str, float]:
    """Trains where there is no run yet, evaluates; the metrics, and the seconds of each."""
    environment = {**os.environ, **(environment or {})}
    seconds = {}
    if not (out / "config.yaml").exists():
        began = time.perf_counter()
        fastgan("train", *arguments, "--preset", "paper", "--out", str(out), env=environment)
        seconds["train s"] = time.perf_counter() - began
    began = time.perf_counter()
    fastgan("evaluate", str(out), "--json", str(out / "metrics.json"), env=environment)
    seconds["evaluate s"] = time.perf_counter() - began
    return {**json.loads((out / "metrics.json").read_text())["metrics"], **seconds}


def fastgan(*arguments: str, env: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-m", "fastgan", *arguments], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"fastgan {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")


def parity(args: argparse.Namespace) -> dict[str, object]:
    found: dict[str, dict[str, list[float]]] = {}
    for data, options in DATA.items():
        for seed in range(args.seeds):
            for variant, (added, environment) in VARIANTS.items():  # side by side: a slow hour is slow for both
                out = args.out / f"{data}-{seed}-{variant.replace(', ', '-')}"
                arguments = ["dcgan", "--data", data, "--resolution", "32", "--steps", str(args.steps)]
                metrics = run(out, [*arguments, "--seed", str(seed), *options, *added], environment)
                found.setdefault(data, {}).setdefault(variant, []).append(metrics["frechet"])
                print(f"{data} seed {seed} {variant}: Frechet distance {metrics['frechet']:.3f}", flush=True)
    for data, variants in found.items():
        means = {name: statistics.mean(values) for name, values in variants.items()}
        spread = max(statistics.stdev(values) for values in variants.values()) if args.seeds > 1 else float("nan")
        ours, theirs = means.values()
        print(
            f"{data}: {', '.join(f'{name} {mean:.3f}' for name, mean in means.items())}; difference "
            f"{ours - theirs:+.3f}, standard deviation over {args.seeds} seeds {spread:.3f}"
        )
    return {"parity": found, "steps": args.steps}


def modes(args: argparse.Namespace) -> dict[str, object]:
    found: dict[str, list[dict[str, float]]] = {}
    for name in args.names or SYSTEMS:
        for seed in range(args.seeds):
            arguments = [name, "--data", "digits", "--seed", str(seed), *SYSTEMS[name]]
            metrics = run(args.out / f"{name}-{seed}", arguments)
            found.setdefault(name, []).append(metrics)
            print(
                f"{name} seed {seed}: {metrics['classes_covered']:.0f} of 10 digits, Frechet distance "
                f"{metrics['frechet']:.2f}, trained in {metrics.get('train s', float('nan')):.0f} s, evaluated in "
                f"{metrics['evaluate s']:.0f} s",
                flush=True,
            )
    return {"modes": found}


def points(args: argparse.Namespace) -> dict[str, object]:
    found: dict[str, list[dict[str, float]]] = {}
    for loss in args.names or LOSSES:
        for data in ("ring", "grid"):
            for seed in range(args.seeds):
                out = args.out / f"{data}-{loss.replace(', ', '-')}-{seed}"
                metrics = run(out, [*LOSSES[loss], "--data", data, "--seed", str(seed), *POINTS])
                found.setdefault(f"{data} {loss}", []).append(metrics)
                print(
                    f"{data} {loss} seed {seed}: {metrics['modes_covered']:.0f} modes, "
                    f"{100 * metrics['high_quality']:.0f} % of the points within one, "
                    f"trained in {metrics.get('train s', float('nan')):.0f} s",
                    flush=True,
                )
    return {"points": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = {"parity": parity, "modes": modes, "points": points}
    parser.add_argument("what", choices=commands)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of systems or losses (default: all)")
    parser.add_argument("--steps", type=int, default=1500, help="of parity's runs (default: 1500)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), help="directory of the runs")
    parser.add_argument("--json", type=Path, help="file of the results (default: quality.json in --out)")
    args = parser.parse_args()
    known = {"modes": SYSTEMS, "points": LOSSES}.get(args.what, {})
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no {unknown[0]!r} in {args.what}; there are {', '.join(known) or 'no names'}")
    args.out.mkdir(parents=True, exist_ok=True)
    result = commands[args.what](args)
    file = args.json or args.out / "quality.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(strict_json.dumps({**before, "machine": machine(), **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
