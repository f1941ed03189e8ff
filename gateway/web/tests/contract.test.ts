// The published contract of the gateway: what the page sends and what the mock answers is held against gateway/openapi.json.
import { readFileSync } from "node:fs";
import Ajv from "ajv/dist/2020";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { encodePng } from "../mock/png";
import { World } from "../mock/world";
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
    ]);
    expect(mattings[1]?.fellBack?.from).toBe("portrait");
    expect(mattings[2]?.measured?.clusters).not.toHaveLength(0);
    expect(mattings[3]?.measured?.keyPoints).not.toHaveLength(0);
    expect(mattings[4]?.noSubject).toBeTruthy();
  });
});
