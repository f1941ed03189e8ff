"""Pictures with exact mattes, made by program: what the refiner learns from.

A scene is a background, up to three subjects that touch or hide each other, and their common alpha. Subjects are cut out of CC0 photographs,
drawn icons, or grown here: blobs with fur and hair, wicker and nets, lace, leaves, glass, blades. Alpha and colour are known for every
pixel, also where a strand is thinner than one. Backgrounds are photographs or gradients, out of focus more often than not, as they are
behind a subject.

Everything follows from the seed. Sizes are in pixels; colours and alpha are float32 from 0 to 1, colours as encoded in sRGB.
"""

import cv2
import numpy as np

SIDE = 768


class Material:
    """What scenes are made of: `photographs` (uint8 RGB), `cutouts` and `icons` (uint8 RGBA)."""

    def __init__(self, photographs, cutouts, icons):
        self.photographs, self.cutouts, self.icons = photographs, cutouts, icons


def scene(seed, material):
    """One scene: (picture uint8 [SIDE, SIDE, 3], alpha uint8 [SIDE, SIDE])."""
    rng = np.random.default_rng(seed)
    cv2.setRNGSeed(int(seed) & 0x7FFFFFFF)
    picture = _background(rng, material)
    union = np.zeros((SIDE, SIDE), np.float32)
    count = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    for index in range(count):
        color, alpha = _subject(rng, material)
        color, alpha = _place(rng, color, alpha, index, count)
        if rng.random() < 0.3:
            picture = _cast_shadow(rng, picture, alpha)
        if rng.random() < 0.25:
            sigma = rng.uniform(0.5, 2.5)
            color, alpha = _defocus(color, alpha, sigma)
        picture = color * alpha[..., None] + picture * (1 - alpha[..., None])
        union = 1 - (1 - union) * (1 - alpha)
    picture = _develop(rng, picture)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), (np.clip(union, 0, 1) * 255 + 0.5).astype(np.uint8)


def _crop(rng, photograph, side=SIDE):
    """A square part of a photograph, turned and mirrored."""
    height, width = photograph.shape[:2]
    part = int(rng.uniform(0.3, 1.0) * min(height, width))
    top, left = rng.integers(0, height - part + 1), rng.integers(0, width - part + 1)
    piece = photograph[top : top + part, left : left + part]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    turns = int(rng.integers(0, 4)) if rng.random() < 0.3 else 0
    piece = np.rot90(piece, turns)
    return cv2.resize(np.ascontiguousarray(piece), (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _shift_color(rng, color, strength=1.0):
    """Another hue, saturation and lightness, so that few photographs are many."""
    hsv = cv2.cvtColor(np.clip(color, 0, 1).astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + strength * rng.uniform(-180, 180)) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.8) + rng.uniform(0, 0.2), 0, 1)
    hsv[..., 2] = np.clip(hsv[..., 2] * rng.uniform(0.6, 1.3) + rng.uniform(-0.1, 0.1), 0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _noise(rng, octaves=5, side=SIDE):
    """Smooth noise of several sizes, 0 to 1."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        cells = min(2 ** (octave + 1), side)
        grid = rng.random((cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def _texture(rng, material):
    """Colours for something grown: of a photograph, or noise between a few colours."""
    if rng.random() < 0.5:
        texture = _crop(rng, material.photographs[rng.integers(len(material.photographs))])
        return _shift_color(rng, texture)
    first, second = rng.random(3).astype(np.float32), rng.random(3).astype(np.float32)
    share = _noise(rng, int(rng.integers(2, 8)))[..., None]
    return first * share + second * (1 - share) * rng.uniform(0.5, 1) + rng.normal(0, 0.03, (SIDE, SIDE, 1)).astype(np.float32)


def _background(rng, material):
    kind = rng.random()
    if kind < 0.65:
        picture = _crop(rng, material.photographs[rng.integers(len(material.photographs))])
        picture = _shift_color(rng, picture, 0.3)
    elif kind < 0.85:
        top, bottom = rng.random(3).astype(np.float32), rng.random(3).astype(np.float32)
        if rng.random() < 0.5:
            bottom = np.clip(top + rng.normal(0, 0.12, 3), 0, 1).astype(np.float32)
        ramp = np.linspace(0, 1, SIDE, dtype=np.float32)
        share = np.broadcast_to(ramp[:, None] if rng.random() < 0.6 else ramp[None, :], (SIDE, SIDE))[..., None]
        picture = top * (1 - share) + bottom * share + 0.08 * (_noise(rng) - 0.5)[..., None]
    else:
        picture = _texture(rng, material)
    if rng.random() < 0.35:
        # Something that stands behind, out of focus: no subject.
        color, alpha = _subject(rng, material)
        color, alpha = _place(rng, color, alpha, 0, 3)
        color, alpha = _defocus(color, alpha * rng.uniform(0.6, 1), rng.uniform(4, 14))
        picture = color * alpha[..., None] + picture * (1 - alpha[..., None])
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(3, 10))
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 12))
    return picture.astype(np.float32)


def _subject(rng, material):
    """Colour [SIDE, SIDE, 3] and alpha [SIDE, SIDE] of something that fills its square."""
    makers = [
        (0.24, _cut_out), (0.18, _icon), (0.20, _furry), (0.12, _leaves), (0.09, _wicker), (0.08, _net), (0.05, _glass), (0.04, _blades),
    ]
    draw = rng.random()
    for share, maker in makers:
        draw -= share
        if draw < 0:
            return maker(rng, material)
    return _furry(rng, material)


def _from_rgba(rng, rgba):
    height, width = rgba.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    premultiplied = rgba.astype(np.float32) / 255
    premultiplied[..., :3] *= premultiplied[..., 3:]
    premultiplied = np.clip(cv2.resize(premultiplied, size, interpolation=flags), 0, 1)
    canvas = np.zeros((SIDE, SIDE, 4), np.float32)
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = premultiplied
    if rng.random() < 0.5:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
    alpha = canvas[..., 3]
    color = canvas[..., :3] / np.maximum(alpha[..., None], 1e-3)
    return _shift_color(rng, color, 0.5 if rng.random() < 0.5 else 0.05), alpha


def _cut_out(rng, material):
    return _from_rgba(rng, material.cutouts[rng.integers(len(material.cutouts))])


def _icon(rng, material):
    color, alpha = _from_rgba(rng, material.icons[rng.integers(len(material.icons))])
    if rng.random() < 0.3:
        color = 0.6 * color + 0.4 * _texture(rng, material)
    return color, alpha


def _outline(rng, low=0.25, high=0.42, points=256):
    """A closed curve around the middle, [points, 2]."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.ones(points)
    for wave in range(1, int(rng.integers(3, 9))):
        radius += rng.normal(0, 0.22 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.25:
        radius += rng.uniform(0.1, 0.35) * np.abs(np.cos(rng.integers(3, 12) * angle))
    radius = np.clip(radius / radius.max(), 0.2, 1) * rng.uniform(low, high) * SIDE
    stretch = rng.uniform(0.7, 1.3)
    return np.stack([SIDE / 2 + radius * np.cos(angle) * stretch, SIDE / 2 + radius * np.sin(angle) / stretch], 1)


def _fill(curves, zoom=2):
    """Coverage of closed curves, anti-aliased by drawing `zoom` times larger."""
    canvas = np.zeros((SIDE * zoom, SIDE * zoom), np.uint8)
    shifted = [np.round(curve * zoom * 16).astype(np.int32) for curve in curves]
    cv2.fillPoly(canvas, shifted, 255, cv2.LINE_AA, 4)
    return cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _strands(rng, starts, directions, count, length, width, curl, zoom=2):
    """Hairs: their coverage, and how light each is (0.6 to 1.3). They begin at random `starts` and grow along `directions`."""
    coverage = np.zeros((SIDE * zoom, SIDE * zoom), np.uint8)
    light = np.ones((SIDE * zoom, SIDE * zoom), np.float32)
    steps = 14
    for index in rng.integers(0, len(starts), count):
        position = starts[index] + rng.normal(0, 3, 2)
        heading = np.arctan2(directions[index][1], directions[index][0]) + rng.normal(0, 0.35)
        bend = rng.normal(0, curl)
        step = length * rng.uniform(0.3, 1.2) / steps
        path = [position]
        for _ in range(steps):
            heading += bend / steps + rng.normal(0, 0.04)
            position = position + step * np.array([np.cos(heading), np.sin(heading)])
            path.append(position)
        points = np.round(np.array(path) * zoom * 16).astype(np.int32)
        thickness = max(1, int(round(width * zoom * rng.uniform(0.5, 1.4))))
        shade = float(rng.uniform(0.6, 1.3))
        half = steps // 2 + 1
        cv2.polylines(coverage, [points[: half + 1]], False, 255, thickness, cv2.LINE_AA, 4)
        cv2.polylines(coverage, [points[half:]], False, 255, max(1, thickness // 2), cv2.LINE_AA, 4)
        cv2.polylines(light, [points], False, shade, thickness, cv2.LINE_8, 4)
    small = lambda image: cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small(coverage).astype(np.float32) / 255, small(light)


def _furry(rng, material):
    """A body with hair or fur around, anything from stubble to a mane."""
    outline = _outline(rng)
    alpha = _fill([outline])
    color = _texture(rng, material)
    if rng.random() < 0.25:
        return color, alpha
    tangent = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    if rng.random() < 0.5:
        first, share = rng.integers(0, 256), int(rng.integers(40, 160))
        chosen = np.arange(first, first + share) % 256
    else:
        chosen = np.arange(256)
    if rng.random() < 0.4:
        normal = 0.4 * normal + np.array([rng.normal(0, 0.4), rng.uniform(-1, 0.6)])
    count, length = int(rng.choice([150, 400, 900, 1600])), float(rng.choice([12, 30, 70, 140]))
    coverage, light = _strands(rng, outline[chosen] - 4 * normal[chosen], normal[chosen], count, length, rng.uniform(0.5, 2.2), rng.uniform(0.1, 1.6))
    tint = rng.uniform(0.5, 1.2, 3).astype(np.float32) if rng.random() < 0.4 else 1.0
    hair = cv2.GaussianBlur(color, (0, 0), 6) * light[..., None] * tint
    if rng.random() < 0.3:
        hair = light[..., None] * rng.random(3).astype(np.float32)
    coverage *= rng.uniform(0.7, 1)
    color = hair * coverage[..., None] + color * (1 - coverage[..., None])
    return np.clip(color, 0, 1), 1 - (1 - alpha) * (1 - coverage)


def _leaves(rng, material):
    """Leaves around stems, with gaps between them."""
    curves, shades = [], []
    root = np.array([SIDE * rng.uniform(0.35, 0.65), SIDE * rng.uniform(0.7, 0.95)])
    for _ in range(int(rng.integers(5, 14))):
        heading, position = rng.uniform(-2.6, -0.5), root.copy()
        for _ in range(int(rng.integers(8, 22))):
            heading += rng.normal(0, 0.15)
            position = position + rng.uniform(8, 26) * np.array([np.cos(heading), np.sin(heading)])
            along, leaf = heading + rng.choice([-1, 1]) * rng.uniform(0.2, 1.2), rng.uniform(16, 70)
            breadth, turn = leaf * rng.uniform(0.06, 0.3), np.linspace(0, 2 * np.pi, 24)
            shape = np.stack([leaf / 2 * (1 + np.cos(turn)), breadth * np.sin(turn) * (0.6 + 0.4 * np.cos(turn))], 1)
            cosine, sine = np.cos(along), np.sin(along)
            curves.append(position + shape @ np.array([[cosine, sine], [-sine, cosine]]))
            shades.append(rng.uniform(0.5, 1.4))
    alpha = np.zeros((SIDE, SIDE), np.float32)
    light = np.ones((SIDE * 2, SIDE * 2), np.float32)
    coverage = np.zeros((SIDE * 2, SIDE * 2), np.uint8)
    for curve, shade in zip(curves, shades):
        points = np.round(curve * 32).astype(np.int32)
        cv2.fillPoly(coverage, [points], 255, cv2.LINE_AA, 4)
        cv2.fillPoly(light, [points], float(shade), cv2.LINE_8, 4)
    alpha = cv2.resize(coverage, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    light = cv2.resize(light, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    base = np.array([rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.5)], np.float32)
    color = np.clip(base * light[..., None] + 0.15 * (_texture(rng, material) - 0.5), 0, 1)
    if rng.random() < 0.5:
        # A pot, which is part of it.
        left, right, top = root[0] - rng.uniform(40, 90), root[0] + rng.uniform(40, 90), root[1] - 10
        pot = _fill([np.array([[left, top], [right, top], [right - 15, SIDE], [left + 15, SIDE]])])
        color = _texture(rng, material) * pot[..., None] + color * (1 - pot[..., None])
        alpha = 1 - (1 - alpha) * (1 - pot)
    return color, alpha


def _wicker(rng, material):
    """Bands around a body, some of it seen through."""
    outline = _outline(rng, 0.3, 0.45)
    body = _fill([outline])
    canvas = np.zeros((SIDE * 2, SIDE * 2), np.uint8)
    light = np.full((SIDE * 2, SIDE * 2), 0.8, np.float32)
    thickness = int(rng.integers(4, 26))
    for _ in range(int(rng.integers(12, 60))):
        first, last = outline[rng.integers(256)], outline[rng.integers(256)]
        middle = (first + last) / 2 + rng.normal(0, 60, 2)
        share = np.linspace(0, 1, 24)[:, None]
        path = (1 - share) ** 2 * first + 2 * share * (1 - share) * middle + share**2 * last
        points = np.round(path * 32).astype(np.int32)
        cv2.polylines(canvas, [points], False, 255, thickness, cv2.LINE_AA, 4)
        cv2.polylines(light, [points], False, float(rng.uniform(0.4, 1.4)), thickness, cv2.LINE_8, 4)
    coverage = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255 * np.maximum(body, 0)
    light = cv2.resize(light, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.clip(cv2.GaussianBlur(_texture(rng, material), (0, 0), 5) * light[..., None], 0, 1), coverage


def _net(rng, material):
    """A net, lace or a grid over a body's outline, at times with a solid part."""
    outline = _outline(rng, 0.3, 0.46)
    body = _fill([outline])
    yy, xx = np.mgrid[0 : SIDE * 2, 0 : SIDE * 2].astype(np.float32) / 2
    bend = 40 * rng.uniform(0, 1) * (_noise(rng, 3, SIDE * 2) - 0.5)
    turn, cell = rng.uniform(0, np.pi), rng.uniform(6, 40)
    u = (np.cos(turn) * xx + np.sin(turn) * yy + bend) / cell
    v = (-np.sin(turn) * xx + np.cos(turn) * yy + bend) / cell
    thread = rng.uniform(0.05, 0.25)
    near = lambda value: np.abs(value - np.round(value))
    if rng.random() < 0.6:
        lines = (near(u) < thread) | (near(v) < thread)
    else:
        lines = np.hypot(near(u), near(v)) > 0.5 - thread
    coverage = cv2.resize(lines.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    veil = rng.uniform(0, 0.25) if rng.random() < 0.4 else 0.0
    coverage = np.maximum(coverage, veil) * body
    ring = cv2.morphologyEx(body, cv2.MORPH_GRADIENT, np.ones((int(rng.integers(3, 15)),) * 2))
    coverage = np.maximum(coverage, np.clip(ring, 0, 1))
    if rng.random() < 0.5:
        coverage = np.maximum(coverage, _fill([_outline(rng, 0.1, 0.25) + rng.normal(0, 60, 2)]))
    return cv2.GaussianBlur(_texture(rng, material), (0, 0), 2), coverage


def _glass(rng, material):
    """Something clear, with brighter rims and reflections."""
    body = _fill([_outline(rng, 0.28, 0.45)])
    depth = cv2.distanceTransform((body > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    rim = np.exp(-depth / rng.uniform(4, 20)) * (body > 0.5)
    alpha = body * np.clip(rng.uniform(0.1, 0.6) + 0.3 * (_noise(rng, 3) - 0.5) + 0.6 * rim, 0, 1)
    shine = _noise(rng, 4) > rng.uniform(0.75, 0.95)
    shine = cv2.GaussianBlur(shine.astype(np.float32), (0, 0), 2) * body
    color = np.clip(rng.uniform(0.4, 1, 3).astype(np.float32) * (0.6 + 0.6 * rim)[..., None] + shine[..., None], 0, 1)
    return color, np.maximum(alpha, shine * 0.9)


def _blades(rng, material):
    """Grass, feathers, brushes: many long things from one side."""
    starts = np.stack([rng.uniform(0.2, 0.8, 200) * SIDE, np.full(200, SIDE * 0.9)], 1)
    directions = np.stack([rng.normal(0, 0.3, 200), -np.ones(200)], 1)
    coverage, light = _strands(rng, starts, directions, int(rng.integers(100, 700)), rng.uniform(150, 420), rng.uniform(1, 5), rng.uniform(0.1, 1.0))
    return np.clip(rng.random(3).astype(np.float32) * light[..., None] + 0.1 * (_texture(rng, material) - 0.5), 0, 1), coverage


def _place(rng, color, alpha, index, count):
    """Scales, turns and moves a subject: it often stands on the lower border, and often is cut by it."""
    scale = rng.uniform(0.6, 1.4) if count == 1 else rng.uniform(0.4, 0.9)
    turn = rng.normal(0, 12) if rng.random() < 0.8 else rng.uniform(-180, 180)
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), turn, scale)
    spread = 0.12 if count == 1 else 0.22
    matrix[0, 2] += rng.normal(0, spread) * SIDE
    matrix[1, 2] += (rng.normal(0, 0.1) if rng.random() < 0.4 else rng.uniform(0.0, 0.35)) * SIDE
    premultiplied = np.dstack([color * alpha[..., None], alpha]).astype(np.float32)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    moved = cv2.warpAffine(premultiplied, matrix, (SIDE, SIDE), flags=flags)
    alpha = np.clip(moved[..., 3], 0, 1)
    return np.clip(moved[..., :3] / np.maximum(alpha[..., None], 1e-3), 0, 1), alpha


def _defocus(color, alpha, sigma):
    premultiplied = cv2.GaussianBlur(np.dstack([color * alpha[..., None], alpha]).astype(np.float32), (0, 0), sigma)
    alpha = premultiplied[..., 3]
    return premultiplied[..., :3] / np.maximum(alpha[..., None], 1e-3), alpha


def _cast_shadow(rng, picture, alpha):
    moved = np.roll(alpha, (int(rng.integers(0, 30)), int(rng.integers(-40, 40))), (0, 1))
    shade = cv2.GaussianBlur(moved, (0, 0), rng.uniform(4, 25)) * rng.uniform(0.2, 0.7)
    return picture * (1 - shade[..., None])


def _develop(rng, picture):
    """What a camera and a file make of it: light, noise, blur, JPEG."""
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.75, 1.35)
    picture = picture * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(0.3, 1.0))
    picture = picture + rng.normal(0, rng.uniform(0, 0.03), picture.shape)
    if rng.random() < 0.6:
        file = cv2.imencode(".jpg", (np.clip(picture, 0, 1) * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 98))])[1]
        picture = cv2.imdecode(file, cv2.IMREAD_COLOR).astype(np.float32) / 255
    return picture


def load_material(path):
    """Reads what `material.py` packed."""
    packed = np.load(path, allow_pickle=True)

    def unpacked(name):
        images = [cv2.imdecode(file.astype(np.uint8), cv2.IMREAD_UNCHANGED) for file in packed[name]]
        return [cv2.cvtColor(i, cv2.COLOR_BGRA2RGBA if i.shape[2] == 4 else cv2.COLOR_BGR2RGB) for i in images]

    return Material(unpacked("photographs"), unpacked("cutouts"), unpacked("icons"))
