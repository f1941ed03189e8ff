// A ZIP of single pictures, made in the browser: the server packs whole tasks only. Stored, not compressed, for pictures
// are compressed already. Sizes stay below 4 GiB, so the plain format (no ZIP64) is enough.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, start) => {
  let value = start;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** `name`, or `name (2)` and so on where it is taken; separators and control signs are replaced. */
export function uniqueName(name: string, taken: Set<string>): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control signs are what is looked for
  const safe = name.replace(/[\u0000-\u001f\u007f/\\:*?"<>|]/g, "_").replace(/^\.+/, "_") || "picture";
  const dot = safe.lastIndexOf(".");
  const [stem, extension] = dot > 0 ? [safe.slice(0, dot), safe.slice(dot)] : [safe, ""];
  let candidate = safe;
  for (let number = 2; taken.has(candidate.toLowerCase()); number += 1) candidate = `${stem} (${number})${extension}`;
  taken.add(candidate.toLowerCase());
  return candidate;
}

/** 1 January 1980: ZIP cannot say "unknown". */
const NO_TIME = 0;
const NO_DATE = 0x21;
const UTF8_NAMES = 0x0800;

function header(signature: number, fields: [size: 2 | 4, value: number][]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 + fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

export class ZipWriter {
  private readonly parts: BlobPart[] = [];
  private readonly directory: Uint8Array<ArrayBuffer>[] = [];
  private readonly taken = new Set<string>();
  private offset = 0;

  add(name: string, content: Uint8Array<ArrayBuffer>): void {
    const nameBytes = new TextEncoder().encode(uniqueName(name, this.taken));
    const common: [2 | 4, number][] = [
      [2, 20],
      [2, UTF8_NAMES],
      [2, 0],
      [2, NO_TIME],
      [2, NO_DATE],
      [4, crc32(content)],
      [4, content.length],
      [4, content.length],
      [2, nameBytes.length],
      [2, 0],
    ];
    const local = header(0x04034b50, common);
    // A Blob may be kept on disk by the browser; the bytes themselves are let go of.
    this.parts.push(local, nameBytes, new Blob([content]));
    const central = header(0x02014b50, [[2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, this.offset]]);
    this.directory.push(central, nameBytes);
    this.offset += local.length + nameBytes.length + content.length;
  }

  finish(): Blob {
    const size = this.directory.reduce((sum, part) => sum + part.length, 0);
    const count = this.directory.length / 2;
    const end = header(0x06054b50, [
      [2, 0],
      [2, 0],
      [2, count],
      [2, count],
      [4, size],
      [4, this.offset],
      [2, 0],
    ]);
    return new Blob([...this.parts, ...this.directory, end], { type: "application/zip" });
  }
}
