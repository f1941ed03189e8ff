// Just enough PNG for the mock: reads 8-bit RGB and RGBA without interlacing, writes RGBA. A colour near that of the
// corner becomes transparent, so that what the page shows is a cut-out of the very picture that was laid down.
import { deflateSync, inflateSync } from "node:zlib";
import { crc32 } from "../src/features/table/zip.ts";

export interface Raster {
  width: number;
  height: number;
  rgba: Uint8Array;
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

export function decodePng(file: Buffer): Raster {
  if (!file.subarray(0, 8).equals(SIGNATURE)) throw new Error("not a PNG");
  const [width, height, depth, type, interlace] = [
    file.readUInt32BE(16),
    file.readUInt32BE(20),
    file[24],
    file[25],
    file[28],
  ];
  if (depth !== 8 || interlace !== 0 || (type !== 2 && type !== 6))
    throw new Error("a PNG that the mock does not read");
  const data: Buffer[] = [];
  for (let at = 8; at + 8 <= file.length; ) {
    const length = file.readUInt32BE(at);
    if (file.toString("latin1", at + 4, at + 8) === "IDAT") data.push(file.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  const channels = type === 6 ? 4 : 3;
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  if (raw.length < (stride + 1) * height) throw new Error("a PNG that ends too early");
  const rgba = new Uint8Array(width * height * 4);
  let previous = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (stride + 1)] ?? 0;
    const line = new Uint8Array(stride);
    for (let x = 0; x < stride; x += 1) {
      const left = x >= channels ? (line[x - channels] ?? 0) : 0;
      const up = previous[x] ?? 0;
      const corner = x >= channels ? (previous[x - channels] ?? 0) : 0;
      const base = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter] ?? 0;
      line[x] = (raw[y * (stride + 1) + 1 + x] ?? 0) + base;
    }
    for (let x = 0; x < width; x += 1) {
      const from = x * channels;
      rgba.set(
        [line[from] ?? 0, line[from + 1] ?? 0, line[from + 2] ?? 0, channels === 4 ? (line[from + 3] ?? 0) : 255],
        (y * width + x) * 4,
      );
    }
    previous = line;
  }
  return { width, height, rgba };
}

function chunk(name: string, body: Buffer): Buffer {
  const typed = Buffer.concat([Buffer.from(name, "latin1"), body]);
  const framed = Buffer.alloc(typed.length + 8);
  framed.writeUInt32BE(body.length, 0);
  typed.copy(framed, 4);
  framed.writeUInt32BE(crc32(typed), framed.length - 4);
  return framed;
}

export function encodePng({ width, height, rgba }: Raster): Buffer {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 6, 0, 0, 0], 8);
  const raw = Buffer.alloc((width * 4 + 1) * height);
  for (let y = 0; y < height; y += 1)
    raw.set(rgba.subarray(y * width * 4, (y + 1) * width * 4), y * (width * 4 + 1) + 1);
  return Buffer.concat([
    SIGNATURE,
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(raw, { level: 3 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

export function cutOut(
  picture: Raster,
  background: [number, number, number] | undefined,
): { result: Raster; alpha: Raster } {
  const result = { ...picture, rgba: new Uint8Array(picture.rgba) };
  const alpha = { ...picture, rgba: new Uint8Array(picture.rgba.length) };
  const [r0 = 0, g0 = 0, b0 = 0] = picture.rgba;
  for (let at = 0; at < picture.rgba.length; at += 4) {
    const [r = 0, g = 0, b = 0] = picture.rgba.subarray(at, at + 3);
    const distance = Math.hypot(r - r0, g - g0, b - b0);
    const a = Math.round(255 * Math.min(1, Math.max(0, (distance - 18) / 22)));
    alpha.rgba.set([a, a, a, 255], at);
    if (background) {
      const mix = (over: number, under: number) => Math.round((over * a + under * (255 - a)) / 255);
      result.rgba.set([mix(r, background[0]), mix(g, background[1]), mix(b, background[2]), 255], at);
    } else result.rgba[at + 3] = a;
  }
  return { result, alpha };
}

/** In the middle of a canvas of this size, unscaled; what lies beyond is cut off, what is left over is `ground` or nothing. */
export function onCanvas(picture: Raster, width: number, height: number, ground: number[] = [0, 0, 0, 0]): Raster {
  const rgba = new Uint8Array(width * height * 4);
  const [left, top] = [Math.floor((width - picture.width) / 2), Math.floor((height - picture.height) / 2)];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [fromX, fromY] = [x - left, y - top];
      const isWithin = fromX >= 0 && fromX < picture.width && fromY >= 0 && fromY < picture.height;
      const from = (fromY * picture.width + fromX) * 4;
      rgba.set(isWithin ? picture.rgba.subarray(from, from + 4) : ground, (y * width + x) * 4);
    }
  }
  return { width, height, rgba };
}

export const isBlack = ({ rgba }: Raster) => rgba.every((level, at) => at % 4 === 3 || level === 0);

export function shrink(picture: Raster, side: number): Raster {
  const step = Math.max(1, Math.max(picture.width, picture.height) / side);
  const [width, height] = [
    Math.max(1, Math.floor(picture.width / step)),
    Math.max(1, Math.floor(picture.height / step)),
  ];
  const rgba = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const from = (Math.floor(y * step) * picture.width + Math.floor(x * step)) * 4;
      rgba.set(picture.rgba.subarray(from, from + 4), (y * width + x) * 4);
    }
  }
  return { width, height, rgba };
}
