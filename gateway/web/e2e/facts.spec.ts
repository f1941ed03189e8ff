// What a result tells of itself: who made it and how sure, why it was handed on or came back whole, how long each step
// took, and what was measured, in words and drawn over the picture.
import { readFileSync } from "node:fs";
import { expect, type Page, test } from "@playwright/test";
import { expectAccessible, expectNoFaults, finished, isMock, open, shot, watch } from "./page";
import { names, picture, plainPicture, type TestFile, tile } from "./pictures";

expectNoFaults();

/** Lays a picture down with the options of this address, and opens it when it is finished. */
async function opened(page: Page, search: string, file: TestFile, openWord = "Open") {
  await open(page, `/?${search}`);
  await finished(page, [file], openWord);
  await tile(page, file.name, openWord)
    .getByRole("link", { name: `${openWord} ${file.name}` })
    .click();
  await expect(page.getByRole("heading", { name: file.name })).toBeVisible();
}

const fact = (page: Page, name: string) =>
  page.locator("dl > div").filter({ has: page.getByText(name, { exact: true }) });

/** Nobody is in the bottle; on the real pipeline a photograph is needed for somebody to be found. */
function person(): TestFile {
  const [stem] = names("portrait") as [string];
  if (isMock) return picture(stem, 2);
  const buffer = readFileSync(new URL("../../../samples/astronaut.jpg", import.meta.url));
  return { name: stem.replace(/png$/, "jpg"), mimeType: "image/jpeg", buffer };
}

test("a graphic tells its processor, its steps, its shapes and its colours", async ({ page }) => {
  const [name] = names("logo") as [string];
  // Of a colour that no earlier picture had: a matte that is taken over has no steps.
  await opened(page, "kind=graphic", picture(name, 3 + (Date.now() % 1000) / 1000));
  await expect(fact(page, "Processor")).toContainText(/Graphic.*\d+ % sure|Graphic.*\d+% sure/);
  const steps = page.locator("summary", { hasText: "Matte, step by step" });
  await expect(page.getByText("cluster the colours")).toBeHidden();
  await steps.focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("listitem").filter({ hasText: "cluster the colours" })).toContainText(/\d ms/);
  const measured = page.getByTestId("measured");
  await expect(measured).toContainText(/#[0-9a-f]{6}/);
  await expect(measured).toContainText("Background");
  await expect(fact(page, "Shapes")).toContainText(/\d/);

  await test.step("drawn over the picture on demand, by button or key, and kept in the address", async () => {
    const marks = page.getByTestId("marks");
    await expect(marks).toHaveCount(0);
    await page.getByRole("button", { name: "Measured" }).press("Enter");
    await expect(marks.locator("path").first()).toBeVisible();
    await expect(page).toHaveURL(/marks=true/);
    await expectAccessible(page, "the facts of a graphic");
    await shot(page, "facts-graphic");
    await page.reload();
    await expect(marks.locator("path").first()).toBeVisible();
    await page.getByTestId("surface").focus();
    await page.keyboard.press("m");
    await expect(marks).toHaveCount(0);
    await expect(page).not.toHaveURL(/marks/);
  });
});

test("a person's face, key points and box are told and lie where they are", async ({ page }) => {
  const file = person();
  await opened(page, "kind=portrait&subject=main", file);
  await expect(fact(page, "Processor")).toContainText("Portrait");
  await expect(fact(page, "Key points")).toContainText("of 1 person");
  await expect(fact(page, "Boxes")).toContainText("Person");
  await page.getByRole("button", { name: "Measured" }).click();
  const marks = page.getByTestId("marks");
  await expect(marks).toContainText(/Person \d+/);
  const [around, nose] = [await page.getByTestId("surface").boundingBox(), marks.locator("circle").first()];
  const before = await nose.boundingBox();
  if (!around || !before) throw new Error("the point is not to be seen");
  expect(before.x).toBeGreaterThan(around.x);
  expect(before.x).toBeLessThan(around.x + around.width);
  await shot(page, "facts-person");
  // Points keep their size when the picture is zoomed.
  await page.getByTestId("surface").focus();
  for (let press = 0; press < 4; press += 1) await page.keyboard.press("+");
  await expect.poll(async () => Math.abs(((await nose.boundingBox())?.width ?? 0) - before.width)).toBeLessThan(1);
  // Over a cut-out that is cropped they would lie beside what they mean.
  await page.getByRole("radio", { name: "Original", exact: true }).check();
  await expect(marks).toBeVisible();
});

test("what was handed on says by whom and why", async ({ page }) => {
  const [name] = names("nobody") as [string];
  await opened(page, "kind=portrait", picture(name, 5));
  await expect(fact(page, "Processor")).toContainText("Product");
  await expect(fact(page, "Processor")).toContainText("Handed on by Portrait: nobody was found in it");
  await page.getByRole("combobox", { name: "Language" }).selectOption("zh-CN");
  await expect(fact(page, "处理器")).toContainText("由人像处理器转交：图中没有找到人");
});

test("a picture without a subject comes back whole, and says why", async ({ page }) => {
  const [name] = names("plain") as [string];
  await opened(page, "kind=graphic", plainPicture(name, 40 + (Date.now() % 150)));
  await expect(fact(page, "Subject")).toContainText("none found: the picture came back whole");
  await expect(fact(page, "Subject")).toContainText("everything in it has one colour");
  await shot(page, "facts-plain");
});

test("on a phone, in Chinese, in the dark: everything fits and is legible", async ({ browser }) => {
  const context = await browser.newContext({
    viewport: { width: 360, height: 740 },
    hasTouch: true,
    isMobile: true,
    locale: "zh-CN",
    colorScheme: "dark",
  });
  const page = await context.newPage();
  watch(page);
  const file = person();
  await opened(page, "kind=portrait&subject=main", file, "打开");
  await page.getByRole("button", { name: "测量" }).tap();
  await expect(page.getByTestId("marks")).toContainText(/人 \d+/);
  expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth)).toBe(true);
  await expectAccessible(page, "the facts on a phone");
  await page.screenshot({ path: "test-results/screens/facts-phone-zh.png", fullPage: true });
  await context.close();
});
