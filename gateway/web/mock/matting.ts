// What the mock tells of a matte: what was asked for decides, and a name with `portrait` in it is of a person. The places
// are those of the bottle that the tests draw (e2e/pictures.ts); none of it is measured.
import type { ImageMetadata, Kind, Matting, Measured, TaskOptions } from "../src/api/types";

type Size = ImageMetadata["dimensions"];

const STEPS: Record<Kind, string[]> = {
  portrait: ["prepare", "mock", "subject", "finish"],
  product: ["prepare", "mock", "second look: prepare", "second look: mock", "finish"],
  graphic: ["background", "clusters", "edge", "colors", "shapes"],
};

/** The matte's report for a picture of this name and size; in a plain one there is nothing to be cut out. */
export function mattingOf(options: TaskOptions, name: string, size: Size, isPlain = false): Matting {
  const isOfPerson = name.includes("portrait");
  const asked = options.type ?? "auto";
  const kind: Kind = asked === "graphic" ? "graphic" : isOfPerson && asked !== "product" ? "portrait" : "product";
  if (isPlain) return { processor: kind, confidence: 0, noSubject: "everything in it has one colour" };
  return {
    processor: kind,
    confidence: 0.97,
    ...(asked === "portrait" && !isOfPerson
      ? { fellBack: { from: "portrait", reason: "nobody was found in it" } }
      : {}),
    steps: STEPS[kind].map((step, place) => ({ name: step, ms: 12.5 + 30 * (place % 2) })),
    measured: measuredOf(kind, size),
  };
}

function measuredOf(kind: Kind, { width, height }: Size): Measured {
  const box = { x: 0.24 * width, y: 0.12 * height, width: 0.52 * width, height: 0.8 * height };
  if (kind === "product") {
    return {
      boxes: [
        { label: "salient", score: 1, ...box },
        { label: "bottle", score: 0.82, ...box },
      ],
    };
  }
  if (kind === "graphic") {
    const { x, y } = box;
    const path = `M${x} ${y}H${x + box.width}V${y + box.height}H${x}Z`;
    return {
      shapes: {
        count: 3,
        pathBytes: path.length,
        paths: [{ color: "#3d8f6a", areaPx: Math.round(box.width * box.height), path }],
      },
      clusters: [
        { color: "#eceae6", share: 0.72, background: true },
        { color: "#3d8f6a", share: 0.25, background: false },
        { color: "#72c49e", share: 0.03, background: false },
      ],
    };
  }
  const point = (part: string, x: number, y: number) => ({
    person: 0,
    name: part,
    x: x * width,
    y: y * height,
    confidence: 0.9,
  });
  return {
    faces: [
      { label: "face", score: 0.93, x: 0.43 * width, y: 0.12 * height, width: 0.14 * width, height: 0.2 * height },
    ],
    keyPoints: [
      point("nose", 0.5, 0.22),
      point("leftShoulder", 0.6, 0.4),
      point("rightShoulder", 0.4, 0.4),
      point("leftHip", 0.58, 0.75),
      point("rightHip", 0.42, 0.75),
    ],
    boxes: [{ label: "person", score: 0.95, ...box }],
  };
}
