// Writes dist/licences.txt: the licences of everything that the built page contains ask to go along with it.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const root = new URL("../", import.meta.url);
const read = (path) => JSON.parse(readFileSync(new URL(path, root), "utf8"));

/** Every package that is needed at run time, by walking the dependencies that are installed. */
function collect(names, seen = new Set()) {
  for (const name of names) {
    const manifest = `node_modules/${name}/package.json`;
    if (seen.has(name) || !existsSync(new URL(manifest, root))) continue;
    seen.add(name);
    collect(Object.keys(read(manifest).dependencies ?? {}), seen);
  }
  return seen;
}

const parts = [...collect(Object.keys(read("package.json").dependencies))].sort().map((name) => {
  const { version, license } = read(`node_modules/${name}/package.json`);
  const folder = new URL(`node_modules/${name}/`, root);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  return `${name} ${version} (${license})\n\n${file ? readFileSync(new URL(file, folder), "utf8").trim() : ""}\n`;
});
writeFileSync(new URL("dist/licences.txt", root), parts.join(`\n${"-".repeat(72)}\n\n`));
