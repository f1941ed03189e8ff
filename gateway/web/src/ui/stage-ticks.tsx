// The line in small: a tick for each stage, filled when it is done, the present one breathing.
export function StageTicks({ done, count, failedAt }: { done: number; count: number; failedAt?: number | undefined }) {
  return (
    <span aria-hidden="true" className="flex gap-[3px]">
      {Array.from({ length: count }, (_, place) => {
        const look =
          place === failedAt
            ? "bg-fail"
            : place < done
              ? "bg-done"
              : place === done && failedAt === undefined
                ? "bg-pencil tick-now"
                : "bg-rule";
        return <span key={place} className={`h-[3px] flex-1 rounded-full ${look}`} />;
      })}
    </span>
  );
}
