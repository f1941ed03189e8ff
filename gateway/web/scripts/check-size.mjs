// The page's script, compressed as the gateway may send it, stays below 200 kB: a budget that is not checked is none.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 200_000;
const assets = new URL("../dist/assets/", import.meta.url);
let total = 0;
for (const name of readdirSync(assets).filter((file) => file.endsWith(".js"))) {
  const bytes = gzipSync(readFileSync(new URL(name, assets)), { level: 9 }).length;
  total += bytes;
  console.log(`${name}: ${bytes} bytes compressed`);
}
if (total === 0 || total > LIMIT_BYTES) {
  console.error(`the scripts have ${total} bytes compressed, allowed are 1 to ${LIMIT_BYTES}`);
  process.exit(1);
}
