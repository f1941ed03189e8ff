// The window onto the picture: its size, and the gestures that move the camera. The address gets the camera when the
// hand has come to rest, for a browser allows only so many changes of an address.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type PointerEvent, type RefObject, useCallback, useEffect, useRef, useState } from "react";
import { type Camera, centered, frameOf, keepInSight, panBy, type Size, zoomAt } from "./view-state";

const REST_MS = 250;

export function useElementSize(ref: RefObject<HTMLElement | null>): Size {
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return size;
}

export function useCamera(ref: RefObject<HTMLElement | null>, picture: Size) {
  const search = useSearch({ from: "/pictures/$taskId/$index" });
  const navigate = useNavigate();
  const size = useElementSize(ref);
  const [camera, setCamera] = useState<Camera>(() => ({
    scale: search.zoom === undefined ? undefined : search.zoom / 100,
    x: search.x ?? picture.width / 2,
    y: search.y ?? picture.height / 2,
  }));
  const kept = camera.scale === undefined ? centered(picture) : keepInSight(camera, size, picture);

  const isFirst = useRef(true);
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    const timer = setTimeout(() => {
      const isFitted = camera.scale === undefined;
      void navigate({
        to: ".",
        search: (previous) => ({
          ...previous,
          zoom: camera.scale === undefined ? undefined : Math.round(camera.scale * 100),
          x: isFitted ? undefined : Math.round(camera.x),
          y: isFitted ? undefined : Math.round(camera.y),
        }),
        replace: true,
        resetScroll: false,
      });
    }, REST_MS);
    return () => clearTimeout(timer);
  }, [camera, navigate]);

  const zoom = useCallback(
    (factor: number, at?: { x: number; y: number }) =>
      setCamera((now) => {
        const from = now.scale === undefined ? centered(picture) : now;
        return zoomAt(from, size, picture, factor, at?.x ?? size.width / 2, at?.y ?? size.height / 2);
      }),
    [size, picture],
  );
  const pan = useCallback(
    (dx: number, dy: number) => setCamera((now) => (now.scale === undefined ? now : panBy(now, size, picture, dx, dy))),
    [size, picture],
  );
  const fit = useCallback(() => setCamera(centered(picture)), [picture]);
  const actual = useCallback(
    () =>
      setCamera((now) =>
        keepInSight({ ...(now.scale === undefined ? centered(picture) : now), scale: 1 }, size, picture),
      ),
    [size, picture],
  );

  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0018)), {
        x: event.clientX - box.left,
        y: event.clientY - box.top,
      });
    };
    // React's own wheel listeners are passive, and the page would scroll along.
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [ref, zoom]);

  return {
    camera: kept,
    frame: frameOf(kept, size, picture),
    size,
    isFitted: camera.scale === undefined,
    zoom,
    pan,
    fit,
    actual,
  };
}

/** One finger or the mouse moves, two fingers zoom. `onDrag` says what moving means at the time. */
export function useGestures(
  onDrag: (event: { x: number; dx: number; dy: number }) => void,
  onPinch: (factor: number, at: { x: number; y: number }) => void,
) {
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const place = (event: PointerEvent<HTMLElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  return {
    onPointerDown: (event: PointerEvent<HTMLElement>) => {
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      pointers.current.set(event.pointerId, place(event));
    },
    onPointerMove: (event: PointerEvent<HTMLElement>) => {
      const before = pointers.current.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
      pointers.current.set(event.pointerId, now);
      if (!other) return onDrag({ x: now.x, dx: now.x - before.x, dy: now.y - before.y });
      const spread = Math.hypot(now.x - other.x, now.y - other.y);
      const spreadBefore = Math.hypot(before.x - other.x, before.y - other.y);
      if (spreadBefore > 0) onPinch(spread / spreadBefore, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    },
    onPointerUp: (event: PointerEvent<HTMLElement>) => void pointers.current.delete(event.pointerId),
    onPointerCancel: (event: PointerEvent<HTMLElement>) => void pointers.current.delete(event.pointerId),
  };
}
