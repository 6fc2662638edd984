"""Run by torchrun or alone: trains the translator of docs/your-system.md, which has a history of pictures.

STAYS=1: after the last step it waits to be killed.

python own_run.py OUT STEPS
"""

import os
import re
import signal
import sys
from pathlib import Path

import torch

from fastgan.data import Apart, ImageData, Together
from fastgan.distributed import leave
from fastgan.runs.run import Run
from fastgan.training import Trainer

GUIDE = Path(__file__).parents[2] / "docs/your-system.md"
OPTIONS = {"resolution": 16, "channels": 1, "width": 4, "pool": 6}
EVERY = {"sample_every": 8, "checkpoint_every": 5, "log_every": 4, "evaluate_every": 10, "samples": 3, "batch_size": 4}


def files(folder: Path) -> dict[str, Path]:
    """The files of the guide, written into the folder, by their names."""
    found = {}
    for name, text in re.findall(r"```python\n# file: (\S+)\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        found[name] = folder / name
        found[name].write_text(text)
    return found


def domains() -> Apart:
    """Two sets of pictures, of unequal number."""
    generator = torch.Generator().manual_seed(2)
    parts = []
    for name, count in ("a", 30), ("b", 21):
        images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=generator)
        parts.append(Together(name, {name: (ImageData(images=images, name=name), "image")}))
    return Apart("noise", parts)


def main() -> None:
    torch.set_num_threads(1)
    out, steps = sys.argv[1:]
    file = Path(out).parent / "two_way.py"
    if Run(out).saved:
        trainer = Trainer.resume(out, system=str(file), data=domains(), device="cpu")
    else:
        trainer = Trainer(
            str(file),
            domains(),
            out=out,
            device="cpu",
            precision="float32",
            seed=3,
            steps=int(steps),
            **EVERY,
            **OPTIONS,
        )
    trainer.fit(int(steps))
    if os.environ.get("STAYS"):
        signal.pause()
    if trainer.ranks.count > 1:
        trainer.ranks.gather(None)
        leave(0)


if __name__ == "__main__":
    main()
