#!/usr/bin/env python3
"""Scores the mattes of the three qualities and of IS-Net alone, beside rembg's from the same weights where rembg is installed.

usage: score.py MASK_BINARY SHARED_FOLDER WORK_FOLDER [--rembg PYTHON] [--models NAME,NAME] [--sets NAME,NAME]

MASK_BINARY    the example `mask` of this crate, built with --release
SHARED_FOLDER  holds data/cutouts and measure/cutout_metrics.py
WORK_FOLDER    where the mattes go
PYTHON         an interpreter that has rembg; it also runs the scoring, which needs numpy, scipy and Pillow

Prints a line for each model and set: the scores of both, and how far the mattes are apart in levels of 255.
"""

import argparse
import os
import pathlib
import subprocess
import sys

MODELS = ["high", "isnet-general-use", "u2net", "u2netp"]
# Quality high is more than one network; rembg's nearest is IS-Net.
REMBG_MODELS = {"high": "isnet-general-use"}
SETS = {"people": "mask", "natural": "alpha", "composites": "alpha"}

REMBG = """
import pathlib, sys
from PIL import Image
from rembg import new_session, remove
session = new_session(sys.argv[1])
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    remove(Image.open(path), session=session, only_mask=True).save(f"{sys.argv[3]}/{path.stem}.png")
"""

APART = """
import pathlib, sys
import numpy as np
from PIL import Image
levels = lambda path: np.asarray(Image.open(path).convert("L"), float)
apart = [np.abs(levels(path) - levels(pathlib.Path(sys.argv[2]) / path.name)).mean() for path in sorted(pathlib.Path(sys.argv[1]).iterdir())]
print(f"mean {np.mean(apart):.3f} worst {max(apart):.3f}")
"""


def run(*command, **environment):
    """What a command printed; its failure ends the program."""
    command = [str(part) for part in command]
    finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if finished.returncode != 0:
        sys.exit(f"{' '.join(command[:3])} failed: {finished.stderr.strip()[-500:]}")
    return finished.stdout.strip()


def models_folder():
    """The folder that the binary uses, as the crate chooses it."""
    chosen = os.environ.get("ATELIER_MODELS_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(chosen) if chosen else pathlib.Path(cache) / "atelier" / "models"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("shared", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--rembg", metavar="PYTHON")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    python = arguments.rembg or sys.executable
    metrics = arguments.shared / "measure" / "cutout_metrics.py"
    for model in arguments.models.split(","):
        for name in arguments.sets.split(","):
            folder = arguments.shared / "data" / "cutouts" / name
            beside = REMBG_MODELS.get(model, model)
            ours, theirs = arguments.work / "atelier" / model / name, arguments.work / "rembg" / beside / name
            ours.mkdir(parents=True, exist_ok=True)
            run(arguments.binary.resolve(), model, folder / "image", ours)
            print(f"{model:18} {name:10} atelier {run(python, metrics, ours, folder / SETS[name])}", flush=True)
            if not arguments.rembg:
                continue
            if not theirs.is_dir():
                theirs.mkdir(parents=True)
                run(python, "-c", REMBG, beside, folder / "image", theirs,
                    U2NET_HOME=str(models_folder()), MODEL_CHECKSUM_DISABLED="1")
            print(f"{model:18} {name:10} rembg   {run(python, metrics, theirs, folder / SETS[name])}")
            print(f"{model:18} {name:10} apart   {run(python, '-c', APART, ours, theirs)}", flush=True)


if __name__ == "__main__":
    main()
