// How a picture is looked at, as the address holds it, and the geometry of zooming. Nothing here knows React.

export const VIEWS = ["compare", "result", "original", "alpha"] as const;
export type View = (typeof VIEWS)[number];

export interface PictureSearch {
  view?: View | undefined;
  /** What lies behind: `white`, `black` or a colour `#rrggbb`; absent: the chequerboard. */
  behind?: string | undefined;
  /** What was measured is drawn over the picture. */
  marks?: true | undefined;
  /** Percent of the visible picture that shows the original. */
  split?: number | undefined;
  /** Percent; absent: fitted to the window. */
  zoom?: number | undefined;
  /** The picture's pixel in the middle of the window. */
  x?: number | undefined;
  y?: number | undefined;
}

export const MOST_ZOOM = 8;
export const PIXEL_GRID_FROM = 6;
/** From here on pixels are shown as squares: smoothing would hide what one zooms in for. */
export const SQUARE_PIXELS_FROM = 2;

const number = (value: unknown, least: number, most: number): number | undefined =>
  typeof value === "number" && Number.isFinite(value) && value >= least && value <= most ? value : undefined;

export function parsePictureSearch(search: Record<string, unknown>): PictureSearch {
  const behind = search.behind;
  const parsed: PictureSearch = {
    view: VIEWS.find((view) => view === search.view),
    behind: typeof behind === "string" && /^(white|black|#[0-9a-f]{6})$/i.test(behind) ? behind : undefined,
    marks: search.marks === true ? true : undefined,
    split: number(search.split, 0, 100),
    zoom: number(search.zoom, 1, MOST_ZOOM * 100),
    x: number(search.x, 0, 100_000),
    y: number(search.y, 0, 100_000),
  };
  return Object.fromEntries(Object.entries(parsed).filter(([, value]) => value !== undefined)) as PictureSearch;
}

export interface Size {
  width: number;
  height: number;
}

export interface Camera {
  /** Window pixels per picture pixel; `undefined`: as large as fits, at most 1. */
  scale: number | undefined;
  /** The picture's pixel in the middle of the window. */
  x: number;
  y: number;
}

export function fitScale(window: Size, picture: Size): number {
  if (window.width <= 0 || window.height <= 0) return 1;
  return Math.min(1, window.width / picture.width, window.height / picture.height);
}

export const centered = (picture: Size): Camera => ({ scale: undefined, x: picture.width / 2, y: picture.height / 2 });

export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
  scale: number;
}

/** Where the picture lies in the window. */
export function frameOf(camera: Camera, window: Size, picture: Size): Frame {
  const scale = camera.scale ?? fitScale(window, picture);
  const width = picture.width * scale;
  const height = picture.height * scale;
  return { left: window.width / 2 - camera.x * scale, top: window.height / 2 - camera.y * scale, width, height, scale };
}

const clamp = (value: number, least: number, most: number) => Math.min(Math.max(value, least), most);

/** Keeps the picture from being lost: what fits stays centred, what does not never leaves the window empty. */
export function keepInSight(camera: Camera, window: Size, picture: Size): Camera {
  const scale = camera.scale ?? fitScale(window, picture);
  const along = (position: number, windowLength: number, pictureLength: number) => {
    const half = windowLength / 2 / scale;
    return pictureLength * scale <= windowLength ? pictureLength / 2 : clamp(position, half, pictureLength - half);
  };
  return {
    ...camera,
    x: along(camera.x, window.width, picture.width),
    y: along(camera.y, window.height, picture.height),
  };
}

/** Zooms so that the picture's pixel under the pointer stays under it. */
export function zoomAt(
  camera: Camera,
  window: Size,
  picture: Size,
  factor: number,
  pointerX: number,
  pointerY: number,
): Camera {
  const fit = fitScale(window, picture);
  const before = camera.scale ?? fit;
  const scale = clamp(before * factor, Math.min(fit, 1), MOST_ZOOM);
  // Back at the smallest: fitted again, also when the window changes.
  if (scale <= fit) return { ...centered(picture), scale: undefined };
  const dx = pointerX - window.width / 2;
  const dy = pointerY - window.height / 2;
  const moved = { scale, x: camera.x + dx / before - dx / scale, y: camera.y + dy / before - dy / scale };
  return keepInSight(moved, window, picture);
}

export function panBy(camera: Camera, window: Size, picture: Size, dx: number, dy: number): Camera {
  const scale = camera.scale ?? fitScale(window, picture);
  return keepInSight({ ...camera, x: camera.x - dx / scale, y: camera.y - dy / scale }, window, picture);
}

/** The part of the picture that is to be seen, in window pixels: the handle moves between its edges. */
export function visibleSpan(frame: Frame, window: Size): { left: number; right: number } {
  const left = Math.max(0, frame.left);
  return { left, right: Math.max(left, Math.min(window.width, frame.left + frame.width)) };
}
