#!/usr/bin/env python3
"""Trains the refiner on generated scenes, and writes it as ONNX.

usage: train.py --material material.npz --models DIR --out DIR [--scenes 10000] [--minutes 20]

The scenes are made by all cores and kept with the mattes that IS-Net and U²-Netp give of them, so that the refiner sees the faults that
it is there to mend. Needs PyTorch with CUDA, onnx, onnxscript and OpenCV; 10,000 scenes take 45 GB of memory. Every minute the
mean of the weights so far is written to `refiner-STEP.onnx` and `refiner-STEP.pt`, with the error on scenes that are not trained on.
"""

import argparse
import copy
import functools
import multiprocessing
import pathlib
import time

import numpy as np
import torch
from torch.nn import functional as F

import generate
from coarse import Network
from network import MULTIPLE, Refiner

BATCH = 24
CROP = 448
HELD_OUT = 200
LEARNING_RATE = 1.5e-3
WARM_UP_STEPS = 300

_material = None


def _open(path):
    global _material
    generate.cv2.setNumThreads(1)
    _material = generate.load_material(path)


def _scene(seed):
    return generate.scene(seed, _material)


def coarse_mattes(pictures, isnet, u2netp):
    """uint8 [n, 3, side, side] on the GPU to the two networks' mattes, uint8 [n, 2, side, side]."""
    colors, side = pictures.float(), pictures.shape[-1]
    scaled = functools.partial(F.interpolate, mode="bilinear", antialias=True, align_corners=False)
    large, small = scaled(colors, size=(1024, 1024)), scaled(colors, size=(320, 320))
    mean, deviation = (torch.tensor(v, device=colors.device)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    small = (small / small.amax((1, 2, 3), keepdim=True).clamp_min(1e-6) - mean) / deviation
    mattes = []
    for matte in (isnet.run((large - 128) / 256), u2netp.run(small)):
        low, high = matte.amin((1, 2, 3), keepdim=True), matte.amax((1, 2, 3), keepdim=True)
        mattes.append(scaled((matte - low) / (high - low).clamp_min(1e-6), size=(side, side)))
    return (torch.cat(mattes, 1).clamp(0, 1) * 255).round().byte()


def make_scenes(arguments, device):
    """uint8 [scenes, 6, SIDE, SIDE] on the GPU: red, green, blue, the two coarse mattes, the true one."""
    isnet = Network(arguments.models / "isnet-general-use.onnx", device)
    u2netp = Network(arguments.models / "u2netp.onnx", device)
    side, started = generate.SIDE, time.time()
    held = torch.empty((arguments.scenes, 6, side, side), dtype=torch.uint8, device=device)
    with multiprocessing.get_context("fork").Pool(initializer=_open, initargs=(arguments.material,)) as pool:
        made = pool.imap(_scene, range(arguments.first_seed, arguments.first_seed + arguments.scenes), chunksize=8)
        for first in range(0, arguments.scenes, 16):
            count = min(16, arguments.scenes - first)
            pairs = [next(made) for _ in range(count)]
            pictures = torch.from_numpy(np.stack([p for p, _ in pairs])).to(device).permute(0, 3, 1, 2)
            held[first : first + count, :3] = pictures
            held[first : first + count, 3:5] = coarse_mattes(pictures, isnet, u2netp)
            held[first : first + count, 5] = torch.from_numpy(np.stack([a for _, a in pairs])).to(device)
            if first % 1600 == 0:
                print(f"{first + count} scenes, {time.time() - started:.0f} s", flush=True)
    return held


def batch_of(scenes, random, device):
    """Random parts of random scenes at a random size, [BATCH, 6, CROP, CROP], 0 to 1."""
    chosen = torch.from_numpy(random.integers(HELD_OUT, len(scenes), BATCH)).to(device)
    batch = scenes[chosen].float() / 255
    side = int(random.uniform(CROP, generate.SIDE))
    if side < generate.SIDE:
        batch = F.interpolate(batch, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    top, left = random.integers(0, side - CROP + 1, 2)
    batch = batch[..., top : top + CROP, left : left + CROP]
    if random.random() < 0.5:
        batch = batch.flip(-1)
    light = torch.from_numpy(random.uniform(0.8, 1.2, (BATCH, 3, 1, 1)).astype(np.float32)).to(device)
    colors = (batch[:, :3] * light).clamp(0, 1)
    return torch.cat([colors, spoil(batch[:, 3:5], random), batch[:, 5:]], 1)


def spoil(mattes, random):
    """What other networks and pictures would do to the mattes: one alone, a part missing or too much, softer or harder."""
    mattes = mattes.clone()
    for matte in mattes:
        draw = random.random()
        if draw < 0.12:
            matte[0] = matte[1]
        elif draw < 0.27:
            matte[1] = matte[0]
        if random.random() < 0.2:
            which, (top, left) = random.integers(2), random.integers(0, CROP - 64, 2)
            height, width = random.integers(32, CROP // 2, 2)
            part = matte[which, top : top + height, left : left + width]
            part.mul_(float(random.uniform(0, 0.6)))
        if random.random() < 0.3:
            matte.pow_(float(random.uniform(0.5, 2)))
        if random.random() < 0.2:
            kernel = int(random.choice([5, 9, 15]))
            matte.copy_(F.avg_pool2d(matte[None], kernel, 1, kernel // 2, count_include_pad=False)[0])
    return mattes


def pyramid_difference(found, true, levels=5):
    """L1 between Laplacian pyramids: edges count at every size."""
    total = 0.0
    for level in range(levels):
        small = [F.avg_pool2d(matte, 2) for matte in (found, true)]
        if level < levels - 1:
            large = [F.interpolate(s, scale_factor=2, mode="bilinear", align_corners=False) for s in small]
            total = total + (2**level) * ((found - large[0]) - (true - large[1])).abs().mean()
        found, true = small
    return total


def slope(matte):
    return matte[..., 1:, :-1] - matte[..., :-1, :-1], matte[..., :-1, 1:] - matte[..., :-1, :-1]


def loss_of(found, true):
    absolute = (found - true).abs()
    soft = ((true > 0.02) & (true < 0.98)).float()
    edges = sum((a - b).abs().mean() for a, b in zip(slope(found), slope(true)))
    return (absolute * (1 + soft)).mean() + 0.5 * pyramid_difference(found, true) + edges


@torch.inference_mode()
def held_out_error(network, scenes):
    """Mean absolute error of (the coarse mattes' mean, the refined), and both intersections over union."""
    sums = np.zeros(4)
    for first in range(0, HELD_OUT, 8):
        part = scenes[first : first + 8].float() / 255
        with torch.autocast("cuda", torch.bfloat16):
            found = network(part[:, :5].contiguous(memory_format=torch.channels_last))
        true, coarse = part[:, 5:], part[:, 3:5].mean(1, keepdim=True)
        overlap = lambda m: (((m > 0.5) & (true > 0.5)).sum((1, 2, 3)) / ((m > 0.5) | (true > 0.5)).sum((1, 2, 3)).clamp_min(1)).sum()
        sums += [(coarse - true).abs().mean().item() * len(part), (found - true).abs().mean().item() * len(part), overlap(coarse).item(), overlap(found).item()]
    return sums / HELD_OUT


def write(network, folder, step):
    network = copy.deepcopy(network).cpu().float().eval()
    torch.save(network.state_dict(), folder / f"refiner-{step}.pt")
    torch.onnx.export(
        network, torch.rand(1, 5, 8 * MULTIPLE, 8 * MULTIPLE), str(folder / f"refiner-{step}.onnx"), opset_version=17, dynamo=False,
        input_names=["picture_and_mattes"], output_names=["matte"],
        dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in ("picture_and_mattes", "matte")},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("material", "models", "out"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--continue-from", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device, random = torch.device("cuda"), np.random.default_rng(1)
    torch.backends.cudnn.benchmark = True
    scenes = make_scenes(arguments, device)
    network = Refiner().to(device, memory_format=torch.channels_last)
    if arguments.continue_from:
        network.load_state_dict(torch.load(arguments.continue_from, map_location=device))
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-4)
    print(f"{sum(p.numel() for p in network.parameters())} weights", flush=True)
    began, told, step, sum_of_losses = time.time(), time.time(), 0, 0.0
    while (share := (time.time() - began) / (60 * arguments.minutes)) < 1:
        rate = LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = batch_of(scenes, random, device)
        with torch.autocast("cuda", torch.bfloat16):
            found = network(batch[:, :5].contiguous(memory_format=torch.channels_last))
        loss = loss_of(found.float(), batch[:, 5:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean.update_parameters(network)
        step += 1
        sum_of_losses += loss.detach()
        if time.time() - told > 60:
            error = held_out_error(mean.module.eval(), scenes)
            print(f"{(time.time() - began) / 60:.1f} min, step {step}, loss {float(sum_of_losses) / step:.4f}, coarse/refined error {error[0]:.4f}/{error[1]:.4f}, IoU {error[2]:.4f}/{error[3]:.4f}", flush=True)
            write(mean.module, arguments.out, step)
            told = time.time()
    write(mean.module, arguments.out, step)
    error = held_out_error(mean.module.eval(), scenes)
    print(f"done: step {step}, coarse/refined error {error[0]:.4f}/{error[1]:.4f}, IoU {error[2]:.4f}/{error[3]:.4f}", flush=True)


if __name__ == "__main__":
    main()
