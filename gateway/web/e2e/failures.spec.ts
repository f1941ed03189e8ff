// What goes wrong on the way in says so, next to the thing that failed, and can be put right there.
import { expect, test } from "@playwright/test";
import { drop, names, picture, tile } from "./pictures";

const live = '[data-testid="connection"][data-state="live"]';

test("an upload that is refused says why, and goes through when it is sent again", async ({ page }) => {
  const [name] = names("full-disk") as [string];
  const keys: (string | undefined)[] = [];
  await page.route("**/api/v1/tasks", (route) => {
    const request = route.request();
    if (request.method() !== "POST") return route.continue();
    keys.push(request.headers()["idempotency-key"]);
    if (keys.length > 1) return route.continue();
    const error = { code: "storageFull", message: "12 bytes are left", details: { stage: "gateway", reason: "Full" } };
    return route.fulfill({
      status: 507,
      contentType: "application/json",
      body: JSON.stringify({ status: "failed", error }),
    });
  });
  await page.goto("/");
  await page.locator(live).waitFor();
  await drop(page, [picture(name, 1)]);
  const upload = page.getByTestId("upload");
  await expect(upload).toContainText("The disk is full");
  await expect(upload).toContainText("Free some space on the server");
  await expect(page.getByTestId("announcer")).toContainText("The disk is full");
  await page.screenshot({ path: "test-results/screens/upload-refused.png" });
  await upload.getByRole("button", { name: "Send again" }).click();
  await expect(tile(page, name)).toHaveAttribute("data-status", "completed");
  // One key for both attempts: had the first been accepted after all, there would still be one task.
  expect(keys).toHaveLength(2);
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(keys[1]).toBe(keys[0]);
});

test("an upload whose connection breaks is sent again by itself", async ({ page }) => {
  const [name] = names("broken-line") as [string];
  let attempts = 0;
  await page.route("**/api/v1/tasks", (route) => {
    if (route.request().method() !== "POST") return route.continue();
    attempts += 1;
    return attempts < 3 ? route.abort("connectionreset") : route.continue();
  });
  await page.goto("/");
  await page.locator(live).waitFor();
  await drop(page, [picture(name, 2)]);
  await expect(page.getByTestId("upload")).toContainText(
    /Not sent yet: The server does not answer.* Next try in \d+ s/,
  );
  await page.screenshot({ path: "test-results/screens/upload-waiting.png" });
  await expect(tile(page, name)).toHaveAttribute("data-status", "completed");
  expect(attempts).toBe(3);
  await expect(tile(page, name)).toHaveCount(1);
});

test("addresses are checked, and one that may not be fetched says so", async ({ page }) => {
  await page.goto("/");
  await page.locator(live).waitFor();
  const field = page.getByLabel("Address of a picture");
  await field.fill("not an address");
  await field.press("Enter");
  await expect(page.getByRole("alert")).toContainText("Write a whole address");
  await field.fill("http://127.0.0.1:9/secret.jpg");
  await field.press("Enter");
  // Refused at once or by the stage that fetches: the words are the same.
  await expect(page.getByText("This address may not be fetched").first()).toBeVisible();
  await expect(page.getByText("Use a public http or https address").first()).toBeVisible();
});

test("what is no picture is left out by name", async ({ page }) => {
  const [name] = names("one") as [string];
  await page.goto("/");
  await page.locator(live).waitFor();
  await drop(page, [{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("hello") }, picture(name, 3)]);
  await expect(
    page.getByRole("status").filter({ hasText: "1 file is no picture and was left out: notes.txt" }),
  ).toBeVisible();
  await expect(tile(page, name)).toHaveAttribute("data-status", "completed");
});

test("an address that leads nowhere, and a picture that is not there", async ({ page }) => {
  await page.goto("/nowhere");
  await expect(page.getByRole("heading", { name: "Nothing lies here" })).toBeVisible();
  await page.goto("/pictures/00000000-0000-4000-8000-000000000000/0");
  await expect(page.getByRole("heading", { name: "There is no such picture" })).toBeVisible();
  await expect(page.getByText("Go back to the table")).toBeVisible();
});

test("pasted pictures are laid down", async ({ page }) => {
  await page.goto("/");
  await page.locator(live).waitFor();
  const { buffer } = picture("pasted", 5);
  await page.evaluate((base64) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
    transfer.items.add(new File([bytes], "image.png", { type: "image/png" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
  }, buffer.toString("base64"));
  await expect(tile(page, "image.png").first()).toHaveAttribute("data-status", "completed");
});
