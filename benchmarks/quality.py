"""Whether faster is as good: DCGAN as FastGAN trains it by default beside plain eager PyTorch in float32; and which
modes of the data each system covers.

    python benchmarks/quality.py parity [--steps 1500] [--seeds 3] [--out runs/quality]
    python benchmarks/quality.py modes [SYSTEM ...]

Every run is a process of its own, `fastgan train` and then `fastgan evaluate`, whose figures are printed together and
written to quality.json in --out. A run that is there already is evaluated, not trained again.
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
              "--set", "discriminator_learning_rate=5e-5", "--steps", "2000"],
    "wgan": [*SMALL, "--width", "32", "--steps", "1500", "--lr", "2e-4"],
    "wgan-gp": ["--resolution", "32", "--width", "16", "--batch-size", "32", "--lr", "2e-4", "--steps", "500",
                "--set", "discriminator_steps=2"],
    "sngan": ["--resolution", "32", "--width", "32", "--batch-size", "16", "--steps", "800",
              "--set", "discriminator_width=32", "--set", "discriminator_steps=2", "--set", "decay_steps=1000"],
    "sgan": [*SMALL, "--steps", "600", "--batch-size", "50"],
    "acgan": [*SMALL, "--steps", "600"],
    "began": [*SMALL, "--width", "12", "--batch-size", "16", "--lr", "5e-4", "--set", "latent=16", "--set", "gamma=1",
              "--set", "lambda_k=0.02", "--steps", "2000"],
    "wngan": [*SMALL, "--width", "16", "--batch-size", "32", "--lr", "5e-4", "--set", "latent=32",
              "--set", "loss=least_squares", "--steps", "4000"],
    "autoencoder": ["--resolution", "32", "--steps", "500"],
}  # fmt: skip
POINTS = ["--data", "grid", "--resolution", "1", "--steps", "4000", "--batch-size", "256"]


def run(out: Path, arguments: list[str], environment: dict[str, str] | None = None) -> dict[str, float]:
    """Trains where there is no run yet, evaluates; the metrics, and the seconds of each."""
    environment = {**os.environ, **(environment or {})}
    seconds = {}
    if not (out / "config.yaml").exists():
        began = time.perf_counter()
        fastgan("train", *arguments, "--out", str(out), env=environment)
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
    found = {}
    for name in args.systems or SYSTEMS:
        metrics = run(args.out / name, [name, "--data", "digits", *SYSTEMS[name]])
        found[f"{name} digits"] = metrics
        print(
            f"{name}: {metrics['classes_covered']:.0f} of 10 classes, Frechet distance {metrics['frechet']:.2f}, "
            f"trained in {metrics.get('train s', float('nan')):.0f} s, evaluated in {metrics['evaluate s']:.0f} s",
            flush=True,
        )
    for name in [] if args.systems else ("wgan-gp", "sngan"):
        metrics = run(args.out / f"{name}-grid", [name, *POINTS])
        found[f"{name} grid"] = metrics
        print(f"{name} on the grid: {metrics['modes_covered']:.0f} of 25 modes", flush=True)
    return {"modes": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["parity", "modes"])
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"parity": parity, "modes": modes}[args.what](args)
    file = args.out / "quality.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
