"""Run by torchrun or alone: trains a tiny DCGAN as its arguments say.

DIES=STEP:kill, STEP:term or STEP:VALUE in the environment does that to the second process at that step, or gives
weights of it that value. STAYS=1: after the last step it waits to be killed.

python rank_run.py OUT STEPS [float64|float32] [name=value ...]
"""

import ast
import copy
import os
import signal
import sys

import torch

from fastgan.data import ImageData
from fastgan.distributed import leave
from fastgan.runs.run import Run
from fastgan.systems import create
from fastgan.training import Trainer


def pictures():
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (50, 1, 16, 16), dtype=torch.uint8, generator=generator)
    return ImageData(images=images, name="noise")


def main():
    torch.set_num_threads(1)
    out, steps, dtype, *rest = sys.argv[1:]
    settings = {name: ast.literal_eval(value) for name, _, value in (text.partition("=") for text in rest)}
    rank = int(os.environ.get("RANK", "0"))
    if Run(out).saved:
        trainer = Trainer.resume(out, data=pictures(), device="cpu", **settings)
    else:
        torch.manual_seed(rank)  # what differs between the processes is made alike
        system = create("dcgan", resolution=16, channels=1, width=8, latent=8).to(getattr(torch, dtype))
        every = {"sample_every": 4, "checkpoint_every": 5, "log_every": 2, "samples": 4, "batch_size": 8}
        settings = {"precision": "float32", "evaluate_every": 6, **every, **settings}
        trainer = Trainer(system, pictures(), out=out, device="cpu", **settings)
    when = os.environ.get("DIES", "")
    if when and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        step, what = when.split(":")
        advance = trainer.advance

        def dies(*arguments):
            if trainer.step == int(step) and rank == 1:
                print("dies", file=sys.stderr, flush=True)
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                elif what == "term":
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    with torch.no_grad():
                        trainer.system.generator[0].conv.weight[0].fill_(float(what))
            advance(*arguments)

        trainer.advance = dies
    trainer.fit(int(steps))
    if os.environ.get("STAYS"):
        signal.pause()
    copy.deepcopy(trainer.system)  # also where its layers hold a process group
    if trainer.ranks.count > 1:
        trainer.ranks.gather(None)
        leave(0)


if __name__ == "__main__":
    main()
