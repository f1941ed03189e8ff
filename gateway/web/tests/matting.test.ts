import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { bonesOf, hasMarks, labelsOf } from "../src/features/picture/marks";
import { REASONS, reasonWords, stepWords, thingWords } from "../src/features/picture/matting-words";
import { type MessageKey, type Params, translate } from "../src/i18n/translate";

const root = new URL("../../../", import.meta.url).pathname;
const t = (key: MessageKey, params?: Params) => translate("en", key, params);
const zh = (key: MessageKey, params?: Params) => translate("zh-CN", key, params);

/** All code of the stage that makes mattes, without its tests. */
const matte = (function read(folder: string): string {
  return readdirSync(folder, { withFileTypes: true })
    .map((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory()
        ? read(path)
        : readFileSync(path, "utf8").replace(/#\[cfg\(test\)\]\nmod [\s\S]*$/, "");
    })
    .join("\n");
})(join(root, "stages/matte/src/processors"));

describe("reasons", () => {
  /** Every reason that the stage gives, with its values filled in. */
  const given = [
    ...matte.matchAll(
      /(?:reason = |reason = format!\(\s*|hand_on\(job, pixels, |NOTHING\w*: &str =\s*|matting, |#\[error\(\s*)"([^"]+)"/g,
    ),
  ].map(([, sentence = ""]) => sentence.replaceAll("{:.0}", "34").replaceAll("{}", "x"));

  it("are those that the stage gives, word for word", () => {
    for (const reason of given) expect(reasonWords(t, reason), reason).toBeDefined();
    for (const [sentence] of REASONS) expect(given.filter((reason) => sentence.test(reason))).toHaveLength(1);
  });

  it("are said in the reader's language, with their values", () => {
    const reason = "34 % of its border have one colour, at least 60 % must";
    expect(reasonWords(t, reason)).toContain("34 % of its border");
    expect(reasonWords(zh, reason)).toMatch(/34 %.*60 %/);
    expect(reasonWords(zh, "the model `u2net` was asked for")).toBe("指定了模型 u2net");
    for (const [sentence, key] of REASONS) {
      const example = sentence.source
        .replace(/^\^|\$$/g, "")
        .replaceAll("(?<share>\\d+)", "1")
        .replaceAll("(?<least>\\d+)", "2")
        .replaceAll(/\(\?<\w+>\.\*\)/g, "x");
      expect(reasonWords(zh, example), key).not.toMatch(/\{\w+\}/);
    }
  });

  it("of a newer gateway are left to be shown as they came", () => {
    expect(reasonWords(t, "the moon was full")).toBeUndefined();
  });
});

describe("steps", () => {
  it("have words, all of those that the processors note", () => {
    const names = [...matte.matchAll(/(?:clock\.done|log\.step)\((?:&format!\()?"(?:\{prefix\})?(\w+)"/g)].map(
      ([, name]) => name ?? "",
    );
    expect(names.length).toBeGreaterThan(6);
    for (const name of names) expect(zh(`step.${name}` as MessageKey), name).not.toBe(`step.${name}`);
  });

  it("that run a network bear its name, those of a second look say so", () => {
    expect(stepWords(t, "isnet-general-use")).toBe("isnet-general-use");
    expect(stepWords(t, "second look: prepare")).toBe("scale to the model’s size, second look");
    expect(matte).toContain('"second look: "');
  });
});

describe("things", () => {
  it("have words, all of those that the detector knows", () => {
    const labels = readFileSync(join(root, "models/weights/labels_coco90_efficientdet.txt"), "utf8").trim().split("\n");
    for (const label of labels.filter((name) => name !== "???")) {
      expect(thingWords(zh, label), label).not.toBe(label);
      expect(thingWords(t, label).toLowerCase()).toBe(label);
    }
    expect(matte).toContain('label: "salient"');
    expect(thingWords(t, "salient")).toBe("What stands out");
    expect(thingWords(t, "unicorn")).toBe("unicorn");
  });
});

describe("marks", () => {
  const point = (person: number, name: string) => ({ person, name, x: person, y: 0, confidence: 1 });

  it("join the points of one body, never those of two", () => {
    const bones = bonesOf([
      point(0, "leftShoulder"),
      point(0, "leftElbow"),
      point(1, "leftElbow"),
      point(1, "leftWrist"),
      point(1, "nose"),
    ]);
    expect(bones.map(({ from, to }) => [from.person, from.name, to.person, to.name])).toEqual([
      [0, "leftShoulder", 0, "leftElbow"],
      [1, "leftElbow", 1, "leftWrist"],
    ]);
  });

  it("are labelled in one line where boxes begin at one place of the screen", () => {
    const box = (x: number) => ({ label: `${x}`, score: 1, x, y: 0, width: 9, height: 9 });
    const lines = (scale: number) => labelsOf([box(0), box(30), box(500)], scale).map(({ boxes }) => boxes.length);
    expect(lines(1)).toEqual([2, 1]);
    expect(lines(2)).toEqual([1, 1, 1]);
    expect(lines(0.05)).toEqual([3]);
  });

  it("are there where something has a place", () => {
    expect(hasMarks()).toBe(false);
    expect(hasMarks({ boxes: [], clusters: [{ color: "#fff", share: 1, background: true }] })).toBe(false);
    expect(hasMarks({ shapes: { count: 9, pathBytes: 0, paths: [] } })).toBe(false);
    expect(hasMarks({ keyPoints: [point(0, "nose")] })).toBe(true);
  });
});
