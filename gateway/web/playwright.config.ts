// The browser is the system's Chromium: nothing is downloaded. One worker, for the tests watch one pipeline.
import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "e2e",
  outputDir: "test-results",
  workers: 1,
  timeout: 300_000,
  // Real models on a busy machine take their time; what is waited for is an outcome, never a speed.
  expect: { timeout: 90_000 },
  reporter: [["list"]],
  use: {
    baseURL: process.env.ATELIER_URL,
    locale: "en-GB",
    viewport: { width: 1360, height: 860 },
    acceptDownloads: true,
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
