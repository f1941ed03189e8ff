// The published contract of the gateway: what the page sends and what the mock answers is held against gateway/openapi.json.
import { readFileSync } from "node:fs";
import Ajv from "ajv/dist/2020";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { encodePng } from "../mock/png";
import { World } from "../mock/world";
import { type Choice, DEFAULT_CHOICE, PLACES } from "../src/api/choice";
import { toTaskOptions } from "../src/api/request-options";
import { ANCHORS, SHADOW_OUTCOMES, SHADOWS, type TaskAnswer, type TaskOptions, TRIMAP_ORIGINS } from "../src/api/types";

const openapi = JSON.parse(readFileSync(new URL("../../openapi.json", import.meta.url), "utf8")) as {
  components: { schemas: Record<string, object> };
};
// Its formats (`uint32`, `float`) say how wide a number is, and its discriminators are for generators of code.
const ajv = new Ajv({ strict: false, validateFormats: false });
ajv.addSchema(openapi, "gateway");

/** What is wrong with a value, by the schema of this name. */
function faults(schema: string, value: unknown): string[] {
  const validate = ajv.compile({ $ref: `gateway#/components/schemas/${schema}` });
  if (validate(JSON.parse(JSON.stringify(value)))) return [];
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}

/** The names that an enumeration of the contract knows. */
function namesOf(schema: string): unknown[] {
  const { oneOf } = openapi.components.schemas[schema] as { oneOf: { const: string }[] };
  return oneOf.map(({ const: name }) => name);
}

describe("the contract", () => {
  it("knows a fault when it sees one", () => {
    expect(faults("TaskOptions", { output: { shadow: "drop" } })).toEqual([]);
    expect(faults("TaskOptions", { output: { shadow: "deep" } })).not.toEqual([]);
    expect(faults("TaskOptions", { output: { colour: "red" } })).not.toEqual([]);
  });

  it("has the closed lists that the page has", () => {
    expect(namesOf("ShadowKind")).toEqual([...SHADOWS]);
    expect(namesOf("Anchor")).toEqual([...ANCHORS]);
    expect(namesOf("ShadowOutcome")).toEqual([...SHADOW_OUTCOMES]);
    expect(namesOf("TrimapOrigin")).toEqual([...TRIMAP_ORIGINS]);
  });
});

describe("what the page sends", () => {
  const some: Partial<Choice>[] = [
    ...SHADOWS.flatMap((shadow) => [{ shadow }, { shadow, strength: 35 }]),
    ...ANCHORS.map((markAt) => ({ mark: "© 2026", markAt })),
    ...PLACES.map((position) => ({ position, size: "1200x800" })),
    ...["original", "fit", "1%", "100%"].map((scale) => ({ scale })),
    ...["#fff", "linear-gradient(45deg, #fff, #888)", "radial-gradient(#fff, #000)", "blur(24px)"].map(
      (background) => ({ background }),
    ),
    { mark: "©", markTile: -30, markOpacity: 0, markSize: 1, markColor: "#102030", position: "original" },
    { crop: "subject", margin: 10_000, format: "webp", encoding: 1, kind: "graphic", subject: "main" },
  ];

  it("is what the contract allows", () => {
    for (const change of some) {
      const options = toTaskOptions({ ...DEFAULT_CHOICE, ...change });
      expect(faults("TaskOptions", options), JSON.stringify(options)).toEqual([]);
    }
  });
});

describe("what the mock answers", () => {
  const world = new World();
  const plain = encodePng({ width: 8, height: 6, rgba: new Uint8Array(8 * 6 * 4).fill(120) });
  const dotted = encodePng({ width: 8, height: 6, rgba: new Uint8Array(8 * 6 * 4).fill(120).fill(9, 40, 80) });
  const asked: [name: string, options: TaskOptions][] = [
    ["bottle.png", {}],
    ["bottle.png", { type: "portrait" }],
    ["bottle.png", { type: "graphic" }],
    ["portrait.png", { type: "auto" }],
    ["plain.png", {}],
    [
      "bottle.png",
      { output: { background: "linear-gradient(#fff, #000)", shadow: "drop", size: { width: 12, height: 10 } } },
    ],
  ];
  let answers: TaskAnswer[] = [];

  beforeAll(async () => {
    process.env.MOCK_SLOWNESS = "0";
    const tasks = asked.map(([name, options], place) => {
      const bytes = name === "plain.png" ? plain : dotted;
      return world.submit(`task-${place}`, [{ name, bytes }], options).taskId;
    });
    await vi.waitFor(
      () => expect(tasks.map((id) => world.tasks.get(id)?.status)).toEqual(asked.map(() => "completed")),
      {
        timeout: 10_000,
      },
    );
    answers = tasks.flatMap((id) => world.tasks.get(id) ?? []);
  });

  it("is what the contract says", () => {
    for (const answer of answers) expect(faults("TaskAnswer", answer)).toEqual([]);
  });

  it("tells of every kind of matte, so that the page can be worked on with it", () => {
    const mattings = answers.map(({ results }) => results[0]?.metadata?.matting);
    expect(mattings.map((matting) => matting?.processor)).toEqual([
      "product",
      "product",
      "graphic",
      "portrait",
      "product",
      "product",
    ]);
    expect(mattings[1]?.fellBack?.from).toBe("portrait");
    expect(mattings[2]?.measured?.clusters).not.toHaveLength(0);
    expect(mattings[3]?.measured?.keyPoints).not.toHaveLength(0);
    expect(mattings[4]?.noSubject).toBeTruthy();
    expect(answers[5]?.results[0]?.metadata).toMatchObject({ dimensions: { width: 12, height: 10 }, shadow: "drawn" });
  });
});
