// Builds the page into dist/, which the gateway embeds. With `--mode mock` the development server answers the API itself
// (mock/), so that the page can be worked on without a pipeline; the build never contains the mock.
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { mockGateway } from "./mock/plugin.ts";

const gateway = process.env.ATELIER_URL ?? "http://127.0.0.1:8080";

/** The policy under which the gateway serves the page (gateway/src/routes/page.rs): what it forbids must not be needed. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; font-src 'self'; " +
  "connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

export default defineConfig(({ mode }) => ({
  plugins: [react(), tailwindcss(), ...(mode === "mock" ? [mockGateway()] : [])],
  server: {
    host: "127.0.0.1",
    ...(mode === "mock" ? {} : { proxy: { "/api": { target: gateway, changeOrigin: true } } }),
  },
  preview: { host: "127.0.0.1", headers: { "content-security-policy": POLICY } },
  build: {
    target: "es2022",
    // The gateway's content security policy forbids inline scripts, so nothing may be inlined as a data address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // One script: it is small (scripts/check-size.mjs), and a view that is fetched later could be missing when it is needed.
    chunkSizeWarningLimit: 700,
  },
  test: { include: ["tests/**/*.test.ts"] },
}));
