// What is chosen of backgrounds, shadows, canvases and watermarks is sent as chosen, and the finished file has it.
import { readFileSync } from "node:fs";
import { expect, type Locator, type Page, test } from "@playwright/test";
import { decodePng } from "../mock/png";
import { expectAccessible, expectNoFaults, finished, isMock, open, shot, watch } from "./page";
import { names, picture, tile } from "./pictures";

expectNoFaults();

const fitsAcross = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);

/** The pixels of the finished file of this picture, which is a PNG. */
async function pixelsOf(page: Page, name: string) {
  await tile(page, name).hover();
  const download = page.waitForEvent("download");
  await tile(page, name)
    .getByRole("link", { name: `Download ${name}` })
    .click();
  const raster = decodePng(readFileSync(await (await download).path()));
  return {
    ...raster,
    at: (x: number, y: number) => [...raster.rgba.subarray(4 * (y * raster.width + x)).subarray(0, 4)],
  };
}

const curlLine = (page: Page) => page.locator("pre").filter({ hasText: "curl" });

const folded = (page: Page, title: string) => page.locator("summary", { hasText: title });

/** Keys alone: whatever has the focus is pressed. */
async function press(field: Locator, key: string) {
  await field.focus();
  await field.page().keyboard.press(key);
}

test("a gradient, a shadow and a canvas are chosen by keyboard, and the file has them", async ({ page }) => {
  const [name] = names("framed") as [string];
  await open(page, "/?quality=low");
  await press(page.getByRole("radio", { name: "Transparent" }), "ArrowLeft");
  await expect(page.getByLabel("Address of the picture")).toBeVisible();
  await press(page.getByRole("radio", { name: "Colour", exact: true }), "ArrowRight");
  await expect(page.getByRole("radio", { name: "Gradient" })).toBeChecked();
  await page.getByLabel("First colour").fill("#2060a0");
  await press(page.getByRole("slider", { name: "Direction" }), "Home");
  await expect(page).toHaveURL(/linear-gradient/);

  await press(page.getByRole("radio", { name: "None", exact: true }), "ArrowRight");
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "Drop" })).toBeChecked();
  await press(page.getByRole("slider", { name: "Strength" }), "End");
  await expect(page).toHaveURL(/shadow=drop/);
  await expect(page).toHaveURL(/strength=100/);

  await expect(page.getByRole("group", { name: "Canvas" })).toBeHidden();
  await press(folded(page, "Canvas and place"), "Enter");
  await press(page.getByRole("group", { name: "Canvas" }).getByRole("radio").first(), "ArrowRight");
  await page.getByRole("spinbutton", { name: "Width" }).fill("640");
  await page.getByRole("spinbutton", { name: "Height" }).fill("900");
  await press(page.getByRole("radio", { name: "Original", exact: true }), "ArrowRight");
  await press(page.getByRole("slider", { name: "Subject’s share" }), "ArrowLeft");
  await press(page.getByRole("radio", { name: "Middle", exact: true }), "ArrowDown");
  await expect(page.getByRole("radio", { name: "Right", exact: true })).toBeChecked();
  await page.keyboard.press("ArrowDown");
  await expect(page).toHaveURL(/size=640x900/);
  await shot(page, "options-canvas");
  await expectAccessible(page, "the options unfolded");
  await expect(curlLine(page)).toContainText('"shadow":{"type":"drop","opacity":1}');
  await expect(curlLine(page)).toContainText(
    '"size":{"width":640,"height":900},"scale":"79%","position":"bottom-left"',
  );

  await finished(page, [picture(name, 1)]);
  const pixels = await pixelsOf(page, name);
  expect([pixels.width, pixels.height]).toEqual([640, 900]);
  // The gradient goes upwards: its first colour is below.
  const near = (wanted: number[], found: number[]) =>
    wanted.forEach((level, channel) => void expect(Math.abs(level - (found[channel] ?? 0))).toBeLessThan(12));
  near([0x20, 0x60, 0xa0, 255], pixels.at(639, 898));
  if (!isMock) near([0xb9, 0xc4, 0xc9, 255], pixels.at(4, 4));

  await page.getByRole("link", { name: `Open ${name}` }).click();
  await expect(page.getByText("640 × 900 px")).toBeVisible();
  await expect(page.locator("dl > div").filter({ hasText: "Shadow" })).toContainText("drawn");
  await test.step("original and cut-out are centred, and what was measured lies over the original alone", async () => {
    await expect(page.getByText("The cut-out has another size than its original")).toBeVisible();
    await page.getByRole("button", { name: "Measured" }).click();
    await expect(page.getByTestId("marks")).toBeVisible();
    await shot(page, "picture-canvas");
    await page.getByRole("radio", { name: "Cut-out", exact: true }).check();
    await expect(page.getByTestId("marks")).toHaveCount(0);
  });
  await test.step("made again, it begins with what it was made with", async () => {
    await page.getByRole("button", { name: "Make again" }).click();
    const dialog = page.getByRole("dialog");
    await expect(dialog.getByRole("radio", { name: "Gradient" })).toBeChecked();
    await expect(dialog.getByRole("radio", { name: "Drop" })).toBeChecked();
    await expect(dialog.getByText("640 × 900 px · 79% · Bottom left")).toBeVisible();
  });
});

test("a text is laid over the picture, once or all over", async ({ page }) => {
  const [once, tiled] = names("marked", "tiled") as [string, string];
  await open(page, "/?quality=low&background=%23ffffff");
  await press(folded(page, "Watermark"), "Enter");
  const text = page.getByLabel("Text over the picture");
  await expect(page.getByLabel("Opacity")).toHaveCount(0);
  await text.focus();
  await page.keyboard.type("Sample");
  await page.getByLabel("Colour of the text").fill("#000000");
  await press(page.getByRole("slider", { name: "Opacity" }), "End");
  await press(page.getByRole("radio", { name: "Bottom right" }), "ArrowRight");
  await expect(page.getByRole("radio", { name: "Top left" })).toBeChecked();
  await expect(curlLine(page)).toContainText(
    '"watermark":{"text":"Sample","position":"topLeft","opacity":1,"textColor":"#000000"}',
  );
  await shot(page, "options-mark");
  await expectAccessible(page, "the watermark's options");
  await finished(page, [picture(once, 4)]);
  await press(page.getByRole("radio", { name: "Once" }), "ArrowRight");
  await expect(curlLine(page)).toContainText('"tile":{"angleDegrees":-30}');
  await finished(page, [picture(tiled, 4)]);
  // The mock draws no text.
  if (isMock) return;
  const dark = async (name: string) => {
    const { width, height, at } = await pixelsOf(page, name);
    const isDark = (x: number, y: number) =>
      at(x, y)
        .slice(0, 3)
        .every((level) => level < 60);
    const count = (right: number, bottom: number) =>
      Array.from({ length: right * bottom }, (_, place) => isDark(place % right, Math.floor(place / right))).filter(
        Boolean,
      ).length;
    return { corner: count(Math.floor(width / 2), Math.floor(height / 8)), whole: count(width, height) };
  };
  const [one, many] = [await dark(once), await dark(tiled)];
  expect(one.corner).toBeGreaterThan(100);
  expect(one.whole).toBe(one.corner);
  expect(many.whole).toBeGreaterThan(2 * one.whole);
});

test("the original is laid behind out of focus, with a shadow on the ground", async ({ page }) => {
  const [name] = names("soft") as [string];
  await open(page, "/?quality=low");
  await page.getByRole("radio", { name: "Blurred" }).check();
  await press(page.getByRole("slider", { name: "How far out of focus" }), "ArrowRight");
  await page.getByRole("radio", { name: "Contact" }).check();
  await expect(curlLine(page)).toContainText('"background":"blur(25px)","shadow":"contact"');
  await finished(page, [picture(name, 2)]);
  const pixels = await pixelsOf(page, name);
  expect(pixels.at(2, 2)[3]).toBe(255);
});

test("a number that does not fit is said, and what was chosen stays", async ({ page }) => {
  await open(page, "/?size=1200x800");
  await page.getByText("Canvas and place", { exact: true }).click();
  const width = page.getByRole("spinbutton", { name: "Width" });
  for (const wrong of ["0", "16001", "16000", ""]) {
    // 16,000 × 8,000 is within the sides and beyond both together.
    if (wrong === "16000") await page.getByRole("spinbutton", { name: "Height" }).fill("8000");
    await width.fill(wrong);
    await expect(width).toHaveAttribute("aria-invalid", "true");
    await expect(width).toHaveAccessibleDescription(/A side has 1 to 16,000 px/);
  }
  await expectAccessible(page, "a wrong number");
  await width.blur();
  await expect(width).toHaveValue("1200");
  await expect(page).toHaveURL(/size=1200x8000/);
});

for (const [language, locale, words] of [
  ["en", "en-GB", ["Options", "Canvas and place", "Watermark", "Own size", "Text over the picture"]],
  ["zh", "zh-CN", ["选项", "画布与位置", "水印", "自定尺寸", "图片上的文字"]],
] as const) {
  test(`all options at 1280 and at 360 pixels, ${language}`, async ({ browser }) => {
    const [options, canvas, mark, own, text] = words;
    const search = "background=radial-gradient(%23ffffff,%20%23b9c4c9)&shadow=keep&crop=subject&margin=24&scale=80%25";
    const context = await browser.newContext({ locale, viewport: { width: 1280, height: 1500 } });
    const wide = await context.newPage();
    watch(wide);
    await open(wide, `/?${search}`);
    await wide.getByText(canvas, { exact: true }).click();
    await wide.getByText(mark, { exact: true }).click();
    await wide.getByRole("radio", { name: own }).check();
    await wide.getByLabel(text).fill("© Atelier");
    await expect(wide).toHaveURL(/mark=/);
    await shot(wide, `options-1280-${language}`);
    await expectAccessible(wide, `all options, ${language}`);
    const address = wide.url();
    await wide.setViewportSize({ width: 360, height: 2600 });
    await wide.goto(address);
    await wide.getByRole("button", { name: options }).click();
    const dialog = wide.getByRole("dialog");
    await dialog.getByText(canvas, { exact: true }).click();
    await dialog.getByText(mark, { exact: true }).click();
    expect(await fitsAcross(wide)).toBe(true);
    expect(await dialog.evaluate((element) => element.scrollWidth <= element.clientWidth)).toBe(true);
    await expectAccessible(wide, `all options on a phone, ${language}`);
    await shot(wide, `options-360-${language}`);
    await context.close();
  });
}
