// Pictures made for the tests, each different, so that nothing is answered from an earlier run; and the ways to lay them down.
import type { Page } from "@playwright/test";
import { encodePng } from "../mock/png";

export interface TestFile {
  name: string;
  mimeType: string;
  buffer: Buffer;
}

/** A coloured bottle on a quiet ground. */
export function picture(name: string, hue: number, width = 480, height = 600): TestFile {
  const rgba = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const body = ((x - width / 2) / (width * 0.26)) ** 2 + ((y - height * 0.62) / (height * 0.3)) ** 2 < 1;
      const neck = Math.abs(x - width / 2) < width * 0.07 && y > height * 0.12 && y < height * 0.5;
      const shade = 40 * Math.sin((x / width) * 3);
      const colour = [120 + 100 * Math.sin(hue), 120 + 100 * Math.sin(hue + 2), 120 + 100 * Math.sin(hue + 4)];
      const pixel = body || neck ? colour.map((value) => value + shade) : [236, 234, 230];
      rgba.set([...pixel.map((value) => Math.max(0, Math.min(255, value))), 255], (y * width + x) * 4);
    }
  }
  return { name, mimeType: "image/png", buffer: encodePng({ width, height, rgba }) };
}

/** Of one colour all over: there is nothing in it to be cut out. */
export function plainPicture(name: string, level: number, width = 320, height = 240): TestFile {
  const rgba = new Uint8Array(width * height * 4).fill(level);
  for (let at = 3; at < rgba.length; at += 4) rgba[at] = 255;
  return { name, mimeType: "image/png", buffer: encodePng({ width, height, rgba }) };
}

/** A bottle cut short: its header is whole, its pixels are not. */
export function brokenPicture(name: string): TestFile {
  const whole = picture(name, 1);
  return { ...whole, buffer: whole.buffer.subarray(0, 600) };
}

/** Lets files fall on the window, as from a file manager. */
export async function drop(page: Page, files: TestFile[]): Promise<void> {
  const contents = files.map(({ name, mimeType, buffer }) => ({ name, mimeType, base64: buffer.toString("base64") }));
  await page.evaluate((dropped) => {
    const transfer = new DataTransfer();
    for (const { name, mimeType, base64 } of dropped) {
      const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type: mimeType }));
    }
    for (const type of ["dragenter", "dragover", "drop"]) {
      document.body.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
  }, contents);
}

/** The tile of a picture by its name; `open` is what the page's language says for opening it. */
export function tile(page: Page, name: string, open = "Open") {
  return page.getByTestId("tile").filter({ has: page.getByRole("link", { name: `${open} ${name}` }) });
}

/** Names that no earlier run has used: the gateway keeps what was laid down before. */
export function names(...stems: string[]): string[] {
  const run = Date.now().toString(36);
  return stems.map((stem) => `${stem}-${run}.png`);
}
