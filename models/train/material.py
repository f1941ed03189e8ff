#!/usr/bin/env python3
"""Packs what scenes are made of into one file.

usage: material.py --photographs DIR --icons DIR --models DIR --out material.npz

Photographs (CC0) serve as backgrounds and textures; those whose subject IS-Net and U²-Netp cut out alike serve as subjects too. Their
edge is drawn in by two pixels, so that no colour of the old background comes along. Icons (MIT) bring exact alpha of their own.
"""

import argparse
import pathlib

import cv2
import numpy as np
import onnxruntime

LONGEST_SIDE = 640
# Least agreement (intersection over union) of the two networks on a subject that is taken.
AGREEMENT = 0.93


def run(session, picture, side, mean, deviation, by_maximum):
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small / (small.max() if by_maximum else 1) - mean) / deviation
    tensor = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32)
    matte = session.run(None, {session.get_inputs()[0].name: tensor})[0][0, 0]
    matte = (matte - matte.min()) / (np.ptp(matte) + 1e-6)
    return cv2.resize(matte, picture.shape[1::-1])


def cut_out(picture, networks):
    mattes = [run(*network[:1], picture, *network[1:]) for network in networks]
    first, second = (matte > 0.5 for matte in mattes)
    union = (first | second).sum()
    share = first.mean()
    if union == 0 or (first & second).sum() / union < AGREEMENT or not 0.05 < share < 0.8:
        return None
    solid = cv2.erode(cv2.GaussianBlur(mattes[0], (0, 0), 1), np.ones((5, 5)))
    alpha = np.clip((solid - 0.4) / 0.4, 0, 1)
    rows, columns = np.nonzero(alpha > 0.5)
    if len(rows) == 0:
        return None
    rgba = np.dstack([picture, (alpha * 255).astype(np.uint8)])
    return rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def packed(image, extension, *parameters):
    """Encoded, colours in OpenCV's order on the way."""
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(extension, cv2.cvtColor(image, order), parameters)[1].tobytes()


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("photographs", "icons", "models", "out"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    session = lambda name: onnxruntime.InferenceSession(str(arguments.models / name), providers=["CPUExecutionProvider"])
    imagenet = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
    networks = [
        (session("isnet-general-use.onnx"), 1024, 128.0, 256.0, False),
        (session("u2netp.onnx"), 320, *imagenet, True),
    ]
    photographs, cutouts, icons = [], [], []
    for path in sorted(arguments.photographs.rglob("*.jpg")):
        picture = read(path)
        if picture is None or picture.shape[2] != 3:
            continue
        scale = min(1, LONGEST_SIDE / max(picture.shape[:2]))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photographs.append(packed(picture, ".webp", cv2.IMWRITE_WEBP_QUALITY, 80))
        subject = cut_out(picture, networks)
        if subject is not None:
            cutouts.append(packed(subject, ".webp", cv2.IMWRITE_WEBP_QUALITY, 85))
    for path in sorted(arguments.icons.iterdir()):
        icon = read(path)
        if icon is not None and icon.shape[2] == 4:
            icons.append(packed(icon, ".png"))
    as_array = lambda files: np.array([np.frombuffer(file, np.uint8) for file in files], dtype=object)
    np.savez(arguments.out, photographs=as_array(photographs), cutouts=as_array(cutouts), icons=as_array(icons))
    print(f"{len(photographs)} photographs, {len(cutouts)} cut-outs, {len(icons)} icons: {arguments.out}")


if __name__ == "__main__":
    main()
