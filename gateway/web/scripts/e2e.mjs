// Runs the browser tests: against the gateway at ATELIER_URL, or with --mock against the built page before the mock.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const isMock = process.argv.includes("--mock");
const playwrightArguments = process.argv.slice(2).filter((argument) => argument !== "--mock");

if (!isMock && !process.env.ATELIER_URL) {
  console.log("skipped: set ATELIER_URL");
  process.exit(0);
}

const run = (command, args, env) =>
  new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, ...env } });
    child.on("exit", (code) => resolve(code ?? 1));
  });

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function withMock(test) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const mock = spawn("npx", ["vite", "preview", "--mode", "mock", "--port", String(port), "--strictPort"], {
    stdio: "ignore",
    // A group of its own, so that npx and what it started end together.
    detached: true,
  });
  try {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const isUp = await fetch(url).then(
        () => true,
        () => false,
      );
      if (isUp) break;
      await sleep(200);
    }
    return await test({ ATELIER_URL: url, ATELIER_RESTART_CMD: `curl -sf -X POST ${url}/__mock/outage` });
  } finally {
    process.kill(-mock.pid, "SIGTERM");
  }
}

const test = (env = {}) => run("npx", ["playwright", "test", ...playwrightArguments], env);
process.exit(isMock ? await withMock(test) : await test());
