// What a person does at the page, on whatever stands at ATELIER_URL: the real pipeline, or the mock.
import { execSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type Download, expect, test } from "@playwright/test";
import { expectAccessible, expectNoFaults, finished, open, shot } from "./page";
import { brokenPicture, drop, names, picture, tile } from "./pictures";

async function bytesOf(download: Download): Promise<Buffer> {
  return readFileSync(await download.path());
}

/** Entries of a ZIP, by the signature of its directory. */
const entriesIn = (zip: Buffer) => zip.toString("latin1").split("PK\x01\x02").length - 1;

expectNoFaults();

test("three pictures, one broken: watched, compared, downloaded", async ({ page }) => {
  const [first, second, broken] = names("bottle", "flask", "broken") as [string, string, string];
  await open(page);
  await shot(page, "table-before");
  // Every word of progress that is shown, however short.
  await page.evaluate(() => {
    const heard: string[] = [];
    Object.assign(window, { heard });
    new MutationObserver(() => {
      for (const element of document.querySelectorAll('[data-testid="progress"]'))
        heard.push(element.textContent ?? "");
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await drop(page, [picture(first, 0), picture(second, 2), brokenPicture(broken)]);

  await test.step("the pictures lie there at once, before the server has answered", async () => {
    await expect(page.getByText(first).first()).toBeVisible({ timeout: 5_000 });
  });
  await test.step("each ends: two with a cut-out, one with what, why and what to do", async () => {
    await expect(tile(page, first)).toHaveAttribute("data-status", "completed");
    await expect(tile(page, second)).toHaveAttribute("data-status", "completed");
    await expect(tile(page, broken)).toHaveAttribute("data-status", "failed");
    await expect(tile(page, broken)).toContainText(/Broken picture|Not a picture format that is read/);
    await expect(tile(page, broken)).toContainText(/export it again|Send JPEG/);
    const heard = await page.evaluate(() => (window as unknown as { heard: string[] }).heard);
    expect(heard.some((words) => /· \d of \d/.test(words))).toBe(true);
    await expect(page.getByTestId("announcer")).toContainText(/2 done, 1 failed/);
    await shot(page, "table-done");
    await expectAccessible(page, "the table with a failure");
  });

  await test.step("one comes down as a PNG", async () => {
    await tile(page, first).hover();
    const download = page.waitForEvent("download");
    await tile(page, first)
      .getByRole("link", { name: `Download ${first}` })
      .click();
    const bytes = await bytesOf(await download);
    expect(bytes.subarray(1, 4).toString("latin1")).toBe("PNG");
    // Colour type 6: with alpha.
    expect(bytes[25]).toBe(6);
  });
  await test.step("the whole strip comes down as one ZIP", async () => {
    const strip = page.getByTestId("task").filter({ has: page.getByRole("link", { name: `Open ${first}` }) });
    const download = page.waitForEvent("download");
    await strip.getByRole("link", { name: "Download this strip as ZIP" }).click();
    const bytes = await bytesOf(await download);
    expect(bytes.subarray(0, 4).toString("latin1")).toBe("PK\x03\x04");
    expect(entriesIn(bytes)).toBe(2);
  });
});

test("a picture is compared, looked at closely, and kept in the address", async ({ page }) => {
  const [name] = names("vase") as [string];
  await open(page);
  await finished(page, [picture(name, 4)]);
  await tile(page, name)
    .getByRole("link", { name: `Open ${name}` })
    .click();
  const handle = page.getByRole("slider", { name: /Boundary/ });
  await expect(handle).toHaveAttribute("aria-valuenow", "50");

  await handle.focus();
  await page.keyboard.press("ArrowRight");
  await expect(handle).toHaveAttribute("aria-valuenow", "52");
  await page.keyboard.press("Home");
  await expect(handle).toHaveAttribute("aria-valuenow", "0");
  const surface = await page.getByTestId("surface").boundingBox();
  const knob = await handle.boundingBox();
  if (!surface || !knob) throw new Error("the picture is not to be seen");
  await page.mouse.move(knob.x + knob.width / 2, knob.y + knob.height / 2);
  await page.mouse.down();
  await page.mouse.move(surface.x + surface.width / 2, surface.y + surface.height / 2, { steps: 5 });
  await page.mouse.up();
  await expect(handle).toHaveAttribute("aria-valuenow", /^(4[89]|5[0-2])$/);
  await shot(page, "picture-compare");
  await expectAccessible(page, "the picture");

  await page.getByTestId("surface").focus();
  for (let press = 0; press < 24; press += 1) await page.keyboard.press("+");
  await expect(page.getByTestId("zoom")).toHaveText(/800/);
  await expect(page.getByTestId("pixel-grid")).toBeVisible();
  await shot(page, "picture-800");
  await page.getByRole("radio", { name: "Black" }).check();
  await page.getByRole("radio", { name: "Cut-out", exact: true }).check();
  await expect(page).toHaveURL(/zoom=800/);
  await page.reload();
  await expect(page.getByTestId("zoom")).toHaveText(/800/);
  await expect(page.getByRole("radio", { name: "Black" })).toBeChecked();
  await expect(page.getByRole("radio", { name: "Cut-out", exact: true })).toBeChecked();
  await page.getByRole("radio", { name: "Alpha", exact: true }).check();
  await page.getByRole("button", { name: "Fit" }).click();
  await shot(page, "picture-alpha");
  await expect(page.getByText(/kcat -C/)).toContainText(/task-events/);
  await page.getByRole("button", { name: "Look up the ids of its events" }).click();
  await expect(page.getByRole("button", { name: /Event Matte/ })).toBeVisible();
  await expect(page.getByRole("button", { name: /Event image.ended/ })).toBeVisible();
  await page.getByRole("radio", { name: "Cut-out", exact: true }).check();
  await page.getByTestId("behind-input").setInputFiles({ ...picture("ground.png", 5) });
  await expect(page.getByRole("radio", { name: "Own" })).toBeChecked();
  await page.getByRole("radio", { name: "White" }).check();
  await expect(page).toHaveURL(/behind=white/);
  await page.getByRole("navigation", { name: "Table" }).getByRole("link", { name: "Table" }).click();
  await expect(tile(page, name)).toBeVisible();
});

test("a finished picture is made again with another background", async ({ page }) => {
  const [name] = names("jug") as [string];
  await open(page);
  await finished(page, [picture(name, 3)]);
  await tile(page, name)
    .getByRole("link", { name: `Open ${name}` })
    .click();
  const before = page.url();
  await page.getByRole("button", { name: "Make again" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: "White" }).check();
  await expectAccessible(page, "the options in a dialog");
  await shot(page, "picture-again");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await expect(page).not.toHaveURL(before);
  await expect(dialog).toBeHidden();
  await expect(page.getByRole("link", { name: "Download", exact: true })).toBeVisible();
  await expect(page.getByText("This file has its own background")).toBeVisible();
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download", exact: true }).click();
  expect((await bytesOf(await download)).subarray(1, 4).toString("latin1")).toBe("PNG");
});

test("every version of a picture leads to the others, and none is uploaded again", async ({ page }) => {
  const [name] = names("vase") as [string];
  await open(page);
  await finished(page, [picture(name, 4)]);
  await tile(page, name)
    .getByRole("link", { name: `Open ${name}` })
    .click();
  const before = new URL(page.url()).pathname;
  const versions = page.getByTestId("versions");
  await expect(page.getByRole("link", { name: "Download", exact: true })).toBeVisible();
  await expect(versions).toHaveCount(0);
  // Nothing of the file is left in the page.
  await page.reload();
  const sent: string[] = [];
  page.on("request", (request) => {
    if (request.method() === "POST") sent.push(new URL(request.url()).pathname);
  });
  for (const [number, background] of [
    [2, "White"],
    [3, "Transparent"],
  ] as const) {
    await page.getByRole("button", { name: "Make again" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("radio", { name: background }).check();
    await dialog.getByRole("button", { name: "Make it" }).click();
    await expect(dialog).toBeHidden();
    await expect(versions.getByRole("link")).toHaveCount(number);
    await expect(page.getByRole("link", { name: "Download", exact: true })).toBeVisible();
  }
  expect(sent).toHaveLength(2);
  for (const path of sent) expect(path).toMatch(/\/repeat$/);
  await expect(versions.locator("[aria-current=page]")).toHaveText("Version 3");
  await expect(versions).toContainText("#ffffff");
  await expectAccessible(page, "the versions");
  await shot(page, "picture-versions");
  await versions.getByRole("link", { name: "Version 1" }).click();
  await expect.poll(() => new URL(page.url()).pathname).toBe(before);
  await expect(versions.locator("[aria-current=page]")).toHaveText("Version 1");
});

test("several selected pictures come down as a ZIP and go on the line again", async ({ page }) => {
  const [first, second, third] = names("cup", "bowl", "can") as [string, string, string];
  await open(page);
  await finished(page, [picture(first, 0), picture(second, 1), picture(third, 5)]);
  for (const name of [first, third]) {
    await tile(page, name).hover();
    await tile(page, name).getByRole("checkbox").check();
  }
  const bar = page.getByTestId("selection-bar");
  await expect(bar).toContainText("2 selected");
  await shot(page, "table-selected");
  await page.reload();
  await expect(bar).toContainText("2 selected");
  const download = page.waitForEvent("download");
  await bar.getByRole("button", { name: "Download as ZIP" }).click();
  const zip = await bytesOf(await download);
  expect(entriesIn(zip)).toBe(2);
  expect(zip.toString("latin1")).toContain(third);
  await bar.getByRole("button", { name: /Make again/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Make 2 pictures again" }).click();
  await expect(bar).toBeHidden();
  await expect(tile(page, first)).toHaveCount(2);
  await expect(tile(page, first).first()).toHaveAttribute("data-status", "completed");
});

test("what is dropped on another view lies on the table", async ({ page }) => {
  const [name] = names("elsewhere") as [string];
  await open(page, "/line?format=webp");
  await drop(page, [picture(name, 2)]);
  await expect(page).toHaveURL(/\/\?format=webp/);
  await expect(tile(page, name)).toHaveAttribute("data-status", "completed");
});

test("a reload in the middle loses nothing", async ({ page }) => {
  const many = names(..."abcdefgh".split("").map((letter) => `reload-${letter}`));
  await open(page);
  await drop(
    page,
    many.map((name, hue) => picture(name, hue)),
  );
  await expect(tile(page, many[0] ?? "")).toBeVisible();
  await page.reload();
  for (const name of many) await expect(tile(page, name)).toHaveAttribute("data-status", "completed");
});

test("the server goes away in the middle and comes back", async ({ page }) => {
  const restart = process.env.ATELIER_RESTART_CMD;
  test.skip(!restart, "set ATELIER_RESTART_CMD");
  const many = names(..."abcdef".split("").map((letter) => `restart-${letter}`));
  const late = names("late") as [string];
  await open(page);
  await drop(
    page,
    many.map((name, hue) => picture(name, hue)),
  );
  await expect(tile(page, many[0] ?? "")).toBeVisible();
  // The command returns when the server is up again, or sooner; what is laid down meanwhile is sent when it can be.
  const banner = page.getByTestId("lost").waitFor({ timeout: 90_000 });
  const away = page.getByTestId("connection").and(page.locator('[data-state="waiting"]')).waitFor({ timeout: 90_000 });
  execSync(restart ?? "", { stdio: "ignore" });
  await away;
  // What lasts is told; a server that is back within a moment is not worth the words.
  if (restart?.includes("__mock")) {
    await banner;
    await shot(page, "server-away");
  } else banner.catch(() => undefined);
  await drop(page, [picture(late[0], 6)]);
  await expect(page.getByText(late[0]).first()).toBeVisible({ timeout: 5_000 });
  await expect(page.getByTestId("connection")).toHaveAttribute("data-state", "live");
  for (const name of [...many, ...late]) await expect(tile(page, name)).toHaveAttribute("data-status", "completed");
  for (const name of [...many, ...late]) await expect(tile(page, name)).toHaveCount(1);
});

test("everything by keyboard alone", async ({ page }) => {
  const [first, second] = names("key-a", "key-b") as [string, string];
  await open(page);
  await finished(page, [picture(first, 0), picture(second, 2)]);
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  const focused = () =>
    page.evaluate(
      () => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "",
    );
  const tabTo = async (wanted: RegExp) => {
    for (let press = 0; press < 40; press += 1) {
      await page.keyboard.press("Tab");
      if (wanted.test(await focused())) return;
    }
    throw new Error(`Tab never came to ${wanted}, it stands at ${await focused()}`);
  };
  await tabTo(/^Open /);
  await page.keyboard.press("Home");
  expect(await focused()).toBe(`Open ${first}`);
  await page.keyboard.press("ArrowRight");
  expect(await focused()).toBe(`Open ${second}`);
  await page.keyboard.press("Space");
  await expect(page.getByTestId("selection-bar")).toContainText("1 selected");
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("selection-bar")).toBeHidden();
  const download = page.waitForEvent("download");
  await page.keyboard.press("d");
  expect((await bytesOf(await download)).subarray(1, 4).toString("latin1")).toBe("PNG");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: second })).toBeVisible();
  await tabTo(/^Boundary/);
  await page.keyboard.press("ArrowLeft");
  await expect(page.getByRole("slider", { name: /Boundary/ })).toHaveAttribute("aria-valuenow", "48");
  await tabTo(/^Make again/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();
  await expect.poll(focused).toMatch(/^Make again/);
});

test("a task is stopped by keyboard, and stays so", async ({ page }) => {
  const many = names(..."abcdefghijklmnopqrst".split("").map((letter) => `stop-${letter}`));
  await open(page);
  await drop(
    page,
    many.map((name, hue) => picture(name, hue)),
  );
  const task = page.getByTestId("task").filter({ has: tile(page, many[0] ?? "") });
  const stop = task.getByRole("button", { name: "Stop the work on this strip" });
  await stop.focus();
  await page.keyboard.press("Enter");
  await expect(task).toHaveAttribute("data-status", "cancelled");
  await expect(stop).toHaveCount(0);
  await expect(tile(page, many.at(-1) ?? "")).toHaveAttribute("data-status", "cancelled");
  await expect(task).toContainText("The task was stopped on request.");
  await expectAccessible(page, "a stopped task");
  await shot(page, "table-stopped");
  await page.reload();
  await expect(task).toHaveAttribute("data-status", "cancelled");
});

test("Escape closes a dialog that the focus has not reached yet", async ({ page }) => {
  await open(page, "/?panel=options");
  await expect(page.getByRole("dialog")).toBeVisible();
  // In one go, so that nothing gives the focus back in between.
  await page.evaluate(() => {
    (document.activeElement as HTMLElement | null)?.blur();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true, cancelable: true }));
  });
  await expect(page.getByRole("dialog")).toBeHidden();
});

test("a dialog closed as soon as it is there gives the focus back", async ({ page }) => {
  const [name] = names("closed-at-once") as [string];
  await open(page);
  await finished(page, [picture(name, 0)]);
  await page.getByRole("link", { name: `Open ${name}` }).click();
  const again = page.getByRole("button", { name: "Make again" });
  await again.focus();
  await page.evaluate(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector('[role="dialog"]')) return;
      observer.disconnect();
      // What lies under a dialog is inert, so that the browser takes the focus off it before the dialog has it.
      (document.activeElement as HTMLElement | null)?.blur();
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true, cancelable: true }));
    }).observe(document.body, { childList: true, subtree: true });
  });
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/pictures\//);
  await expect(page).not.toHaveURL(/panel=/);
  await expect(page.getByRole("dialog")).toBeHidden();
  await expect(again).toBeFocused();
});

test("the line shows its stages, its dead letters, and what passes", async ({ page }) => {
  const [broken, whole] = names("dead", "alive") as [string, string];
  await open(page);
  await drop(page, [brokenPicture(broken), picture(whole, 1)]);
  await page.getByRole("link", { name: "Line", exact: true }).click();
  for (const stage of ["ingest", "preprocess", "classify", "matte", "compose", "persist"]) {
    await expect(page.getByTestId(`station-${stage}`)).toBeVisible();
  }
  const letters = page.getByRole("button", { name: /dead letters? of/ }).first();
  await expect(letters).toBeVisible();
  await expect(page.getByText("task ended").first()).toBeVisible();
  await shot(page, "line");
  await expectAccessible(page, "the line");
  await letters.click();
  await expect(page.getByTestId("letter").first()).toContainText(/offset \d+/);
  await expectAccessible(page, "the dead letters");
  await page
    .getByTestId("letter")
    .first()
    .getByRole("button", { name: /Replay/ })
    .click();
  await expect(page.getByTestId("letter").first().getByText("Replayed", { exact: true })).toBeVisible();
  await shot(page, "letters");
  await page.goBack();
  await expect(page.getByRole("dialog")).toBeHidden();
});

test("both languages, the options, and the lines to copy", async ({ browser }) => {
  const context = await browser.newContext({ locale: "zh-CN", colorScheme: "dark" });
  const page = await context.newPage();
  await open(page);
  await expect(page.locator("html")).toHaveAttribute("lang", "zh-CN");
  await expect(page.getByRole("link", { name: "流水线" })).toBeVisible();
  await page.getByRole("radio", { name: "WebP" }).check();
  await page.getByRole("radio", { name: "快速" }).check();
  await expect(page).toHaveURL(/format=webp/);
  await expect(page.locator("pre").filter({ hasText: "curl" })).toContainText('"format":"webp"');
  await expect(page.locator("pre").filter({ hasText: "kcat" })).toContainText('"quality":"low"');
  await shot(page, "table-zh-dark");
  await expectAccessible(page, "the table in Chinese, dark");
  await page.goto("/line?format=webp");
  await expect(page.getByTestId("station-matte")).toContainText("抠图");
  await shot(page, "line-zh-dark");
  await expectAccessible(page, "the line in Chinese, dark");
  await page.goBack();
  await page.getByRole("combobox", { name: "语言" }).selectOption("en");
  await expect(page.locator("html")).toHaveAttribute("lang", "en");
  await page.reload();
  await expect(page.getByRole("heading", { name: "Options" })).toBeVisible();
  await expect(page.getByRole("radio", { name: "WebP" })).toBeChecked();
  await context.close();
});

test("a phone: everything fits into 360 pixels", async ({ browser }) => {
  const context = await browser.newContext({
    viewport: { width: 360, height: 740 },
    hasTouch: true,
    isMobile: true,
    locale: "en-GB",
  });
  const page = await context.newPage();
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
  const [name] = names("a-very-long-name-that-someone-gave-to-a-photograph-of-a-bottle") as [string];
  await open(page);
  await finished(page, [picture(name, 2)]);
  expect(await fits()).toBe(true);
  await shot(page, "phone-table");
  await page.getByRole("button", { name: "Options" }).click();
  await expect(page.getByRole("dialog")).toBeVisible();
  await shot(page, "phone-options");
  await page.keyboard.press("Escape");
  await tile(page, name)
    .getByRole("link", { name: `Open ${name}` })
    .tap();
  await expect(page.getByRole("slider", { name: /Boundary/ })).toBeVisible();
  expect(await fits()).toBe(true);
  await shot(page, "phone-picture");
  await page.goto("/line");
  await expect(page.getByTestId("station-persist")).toBeVisible();
  expect(await fits()).toBe(true);
  await context.close();
});

test("many pictures at once are split into tasks, and the page stays usable", async ({ page }) => {
  test.skip(
    !process.env.ATELIER_RESTART_CMD?.includes("__mock"),
    "on the mock only: a real model would take minutes for them",
  );
  await open(page);
  const one = picture("many", 1, 24, 30);
  const [stem] = names("many") as [string];
  await drop(
    page,
    Array.from({ length: 200 }, (_, number) => ({ ...one, name: `${number}-${stem}` })),
  );
  await expect(page.getByText("24 pictures").first()).toBeVisible();
  await page.getByRole("link", { name: "Line", exact: true }).click();
  await expect(page.getByTestId("station-matte")).toBeVisible({ timeout: 5_000 });
});
