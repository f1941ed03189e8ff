// The mark of a grease pencil around a picked picture: drawn by hand, so no two neighbours are quite alike.
const STROKES = [
  "M3 6 C30 2 70 4 97 4 C98 30 96 70 97 96 C70 98 30 95 4 97 C2 70 5 30 3 3",
  "M5 3 C32 5 68 2 96 5 C96 32 99 68 96 97 C68 95 32 98 3 96 C5 68 2 32 4 6",
  "M2 4 C34 3 66 5 98 3 C95 34 98 66 96 98 C66 97 34 95 4 96 C4 66 3 34 6 2",
];

export function PencilFrame({ seed }: { seed: number }) {
  return (
    <svg
      aria-hidden="true"
      viewBox="0 0 100 100"
      preserveAspectRatio="none"
      className="pointer-events-none absolute -inset-1 size-[calc(100%+0.5rem)] text-pencil"
    >
      <path
        d={STROKES[seed % STROKES.length]}
        fill="none"
        stroke="currentColor"
        strokeWidth="3.5"
        strokeLinecap="round"
        strokeLinejoin="round"
        vectorEffect="non-scaling-stroke"
      />
    </svg>
  );
}
