// What was measured, drawn over the picture: boxes, faces, key points with their bones, outlines of flat regions. It is for
// the eye alone, and hidden from screen readers: measured.tsx says the same in words.
import type { Detection, KeyPoint, Measured } from "../../api/types";
import { useI18n } from "../../i18n";
import { formatPercent } from "../../i18n/format";
import { thingWords } from "./matting-words";
import type { Size } from "./view-state";

/** Points of one body that a line joins, where both are known. */
const BONES: readonly [string, string][] = [
  ["leftShoulder", "rightShoulder"],
  ["leftShoulder", "leftElbow"],
  ["leftElbow", "leftWrist"],
  ["rightShoulder", "rightElbow"],
  ["rightElbow", "rightWrist"],
  ["leftShoulder", "leftHip"],
  ["rightShoulder", "rightHip"],
  ["leftHip", "rightHip"],
  ["leftHip", "leftKnee"],
  ["leftKnee", "leftAnkle"],
  ["rightHip", "rightKnee"],
  ["rightKnee", "rightAnkle"],
];

/** Whether any of it has a place in the picture. */
export function hasMarks({ faces, keyPoints, boxes, shapes }: Measured = {}): boolean {
  return [faces, keyPoints, boxes, shapes?.paths].some((list) => list && list.length > 0);
}

/** The bones of all people as lines, in pixels of the picture. */
export function bonesOf(points: KeyPoint[]): { from: KeyPoint; to: KeyPoint }[] {
  const placeOf = new Map(points.map((point) => [`${point.person} ${point.name}`, point]));
  return [...new Set(points.map(({ person }) => person))].flatMap((person) =>
    BONES.flatMap(([one, other]) => {
      const [from, to] = [placeOf.get(`${person} ${one}`), placeOf.get(`${person} ${other}`)];
      return from && to ? [{ from, to }] : [];
    }),
  );
}

/** Where the labels of boxes go; those of boxes that begin at one place, as seen on the screen, stand in one line. */
export function labelsOf(boxes: Detection[], scale: number): { x: number; y: number; boxes: Detection[] }[] {
  const labels: { x: number; y: number; boxes: Detection[] }[] = [];
  for (const box of boxes) {
    const near = labels.find(({ x, y }) => Math.hypot(x - box.x, y - box.y) * scale < 2 * LABEL_PX);
    if (near) near.boxes.push(box);
    else labels.push({ x: box.x, y: box.y, boxes: [box] });
  }
  return labels;
}

/** Light lines on a dark edge are seen on every picture. */
const EDGE = { stroke: "rgb(0 0 0 / 0.5)", strokeWidth: 3 };
const LINE = { stroke: "oklch(0.82 0.15 72)", strokeWidth: 1.5 };
const POINT_PX = 3;
const LABEL_PX = 20;

interface Props {
  measured: Measured;
  /** Of the upright picture: what the places are measured in. */
  picture: Size;
  /** Window pixels per picture pixel: what is drawn keeps its size. */
  scale: number;
}

export function Marks({ measured, picture, scale }: Props) {
  const { t, language } = useI18n();
  const { faces = [], keyPoints = [], boxes = [], shapes } = measured;
  const px = 1 / scale;
  const lines = (
    <>
      {shapes?.paths.map(({ path }, place) => (
        <path key={place} d={path} vectorEffect="non-scaling-stroke" />
      ))}
      {boxes.map((box, place) => (
        <Box key={place} box={box} />
      ))}
      {faces.map((face, place) => (
        <Box key={place} box={face} isDashed />
      ))}
      {bonesOf(keyPoints).map(({ from, to }, place) => (
        <line key={place} x1={from.x} y1={from.y} x2={to.x} y2={to.y} vectorEffect="non-scaling-stroke" />
      ))}
    </>
  );
  return (
    <div aria-hidden="true" className="pointer-events-none absolute inset-0" data-testid="marks">
      <svg
        aria-hidden="true"
        viewBox={`0 0 ${picture.width} ${picture.height}`}
        className="absolute inset-0 size-full overflow-visible"
        fill="none"
      >
        <g {...EDGE}>{lines}</g>
        <g {...LINE}>{lines}</g>
        {keyPoints.map(({ person, name, x, y }) => (
          <circle
            key={`${person} ${name}`}
            cx={x}
            cy={y}
            r={POINT_PX * px}
            fill={LINE.stroke}
            stroke={EDGE.stroke}
            vectorEffect="non-scaling-stroke"
          />
        ))}
      </svg>
      {labelsOf(boxes, scale).map(({ x, y, boxes: here }) => (
        <span
          key={`${x} ${y}`}
          // Over the box where there is room, else within it.
          className={`absolute rounded bg-black/65 px-1.5 text-[0.72rem] whitespace-nowrap text-white ${y * scale > LABEL_PX ? "-translate-y-full" : ""}`}
          style={{ left: `${(100 * x) / picture.width}%`, top: `${(100 * y) / picture.height}%` }}
        >
          {here.map(({ label, score }) => `${thingWords(t, label)} ${formatPercent(language, score)}`).join(" · ")}
        </span>
      ))}
    </div>
  );
}

function Box({ box: { x, y, width, height }, isDashed = false }: { box: Detection; isDashed?: boolean }) {
  return (
    <rect
      x={x}
      y={y}
      width={width}
      height={height}
      strokeDasharray={isDashed ? "4 3" : undefined}
      vectorEffect="non-scaling-stroke"
    />
  );
}
