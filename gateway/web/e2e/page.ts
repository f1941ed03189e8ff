// What the tests of the page do again and again, and what must never happen in any of them.
import AxeBuilder from "@axe-core/playwright";
import { expect, type Page, test } from "@playwright/test";
import { drop, tile } from "./pictures";

/** The mock stands in for the pipeline: it finds no person in a photograph and draws neither shadow nor text. */
export const isMock = process.env.ATELIER_RESTART_CMD?.includes("__mock") ?? false;

export const shot = (page: Page, name: string) => page.screenshot({ path: `test-results/screens/${name}.png` });

export async function expectAccessible(page: Page, where: string) {
  // What fades in is measured when it has arrived.
  await page.waitForTimeout(500);
  const { violations } = await new AxeBuilder({ page }).analyze();
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
  expect(told, where).toEqual([]);
}

export async function open(page: Page, path = "/") {
  await page.goto(path);
  await expect(page.getByTestId("connection")).toHaveAttribute("data-state", "live");
}

/** Lays pictures down and waits until each has its cut-out. */
export async function finished(page: Page, files: Parameters<typeof drop>[1], openWord = "Open") {
  await drop(page, files);
  for (const file of files) await expect(tile(page, file.name, openWord)).toHaveAttribute("data-status", "completed");
}

/** What the browser refused to load, or a script threw: nothing of either is ever right. */
const faults: string[] = [];
/** Watches a page of a context of its own too. */
export function watch(page: Page) {
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    if (/Content Security Policy|Minified React error/.test(message.text())) faults.push(message.text());
  });
  // Nothing may be asked of any other address.
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    const isOwn = !protocol.startsWith("http") || origin === new URL(process.env.ATELIER_URL ?? "").origin;
    if (!isOwn) faults.push(`asked of ${request.url()}`);
  });
}

/** Holds every test of a file to it. */
export function expectNoFaults() {
  test.beforeEach(({ page }) => {
    faults.length = 0;
    watch(page);
  });
  test.afterEach(() => expect(faults).toEqual([]));
}
