// The shapes that the gateway speaks: the wire form of the Rust types in schemas/src/{request,answer,events,error}.rs.
// A test compares the closed lists here with those sources, so that they cannot drift apart unseen.

export const KIND_CHOICES = ["auto", "portrait", "product", "graphic"] as const;
export type KindChoice = (typeof KIND_CHOICES)[number];
export type Kind = Exclude<KindChoice, "auto">;

export const QUALITIES = ["high", "medium", "low"] as const;
export type Quality = (typeof QUALITIES)[number];

export const FORMATS = ["png", "webp", "jpeg", "avif", "zip"] as const;
export type ImageFormat = (typeof FORMATS)[number];

export type Crop = "none" | "subject";
export type TaskStatus = "pending" | "processing" | "completed" | "failed" | "cancelled";

export const ERROR_CODES = [
  "invalidRequest",
  "optionNotSupported",
  "tooManyImages",
  "idempotencyConflict",
  "notFound",
  "noOriginal",
  "imageTooLarge",
  "unsupportedFormat",
  "undecodableImage",
  "unsupportedMediaType",
  "addressForbidden",
  "fetchFailed",
  "fetchTimedOut",
  "modelUnavailable",
  "inferenceFailed",
  "encodingFailed",
  "storageFull",
  "dependencyUnavailable",
  "deadlineExceeded",
  "cancelled",
  "alreadyEnded",
  "internal",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

export interface BlobRef {
  key: string;
  mediaType: string;
  bytes: number;
  width: number;
  height: number;
}

export interface ImageSource {
  url?: string;
  name?: string;
  size?: number;
  blob?: BlobRef;
}

export interface Gradient {
  type?: "linear" | "radial";
  angleDegrees?: number;
  stops: { color: string; at: number }[];
}

/** As text or as the object that the gateway answers with. */
export type Background = string | { blob: BlobRef } | { gradient: Gradient } | { blur: number };

export const SHADOWS = ["none", "keep", "drop", "contact", "auto"] as const;
export type ShadowKind = (typeof SHADOWS)[number];

export interface Shadow {
  type: ShadowKind;
  /** 0 to 1. */
  opacity?: number;
  blur?: string;
  offsetX?: string;
  offsetY?: string;
  color?: string;
}

export interface OutputOptions {
  format?: ImageFormat;
  background?: Background;
  encodingQuality?: number;
  maxBytes?: number;
  maxPixels?: number;
  edgeSmoothingPx?: number;
  semitransparency?: boolean;
  crop?: Crop;
  cropMarginPx?: number;
  cropMargin?: string;
  size?: { width: number; height: number };
  scale?: string;
  position?: string;
  shadow?: ShadowKind | Shadow;
  channels?: "rgba" | "alpha" | "mask";
}

export const ANCHORS = [
  "topLeft",
  "top",
  "topRight",
  "left",
  "center",
  "right",
  "bottomLeft",
  "bottom",
  "bottomRight",
] as const;
export type Anchor = (typeof ANCHORS)[number];

export interface Watermark {
  url?: string;
  blob?: BlobRef;
  text?: string;
  position?: Anchor | { x: number; y: number };
  opacity?: number;
  scale?: number;
  tile?: { spacing?: number; angleDegrees?: number };
  blend?: "normal" | "multiply" | "screen" | "overlay";
  textSizePx?: number;
  textColor?: string;
  invisible?: { payload: string };
}

/** What the page offers; a rectangle, `x1 y1 x2 y2`, is for other senders. */
export const SUBJECTS = ["all", "main"] as const;
export type Subject = (typeof SUBJECTS)[number];

export interface TaskOptions {
  type?: KindChoice;
  quality?: Quality;
  model?: string;
  subject?: Subject | (string & {});
  watermark?: Watermark;
  output?: OutputOptions;
}

export interface TaskRequest {
  images: ImageSource[];
  options?: TaskOptions;
}

export interface RepeatRequest {
  images: string[];
  options: TaskOptions;
}

export interface ErrorBody {
  // A newer gateway may know codes that this page does not: they are shown by the words of `internal` and the message.
  code: ErrorCode | (string & {});
  message: string;
  details?: { stage?: string; reason?: string; suggestions?: string[]; pointer?: string };
}

export interface StageTiming {
  stage: string;
  queueMs: number;
  processingTimeMs: number;
}

/** A found thing; its place and size in pixels of the upright picture. */
export interface Detection {
  label: string;
  score: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface KeyPoint {
  person: number;
  name: string;
  x: number;
  y: number;
  confidence: number;
}

export interface Shapes {
  count: number;
  pathBytes: number;
  paths: { color: string; areaPx: number; path: string }[];
}

export interface Cluster {
  color: string;
  share: number;
  background: boolean;
}

export interface Measured {
  faces?: Detection[];
  keyPoints?: KeyPoint[];
  boxes?: Detection[];
  shapes?: Shapes;
  clusters?: Cluster[];
}

export interface Step {
  name: string;
  ms: number;
}

export const TRIMAP_ORIGINS = ["given", "made"] as const;
export const SHADOW_OUTCOMES = ["drawn", "kept", "notFound", "noGround", "backgroundTooBusy"] as const;

/** How the matte was made, and what was measured on the way. */
export interface Matting {
  processor: Kind;
  confidence: number;
  fellBack?: { from: Kind; reason: string };
  noSubject?: string;
  trimap?: { origin: (typeof TRIMAP_ORIGINS)[number]; unknownShare: number };
  steps?: Step[];
  measured?: Measured;
}

export interface ImageMetadata {
  type: Kind;
  confidence: number;
  processingTime: number;
  dimensions: { width: number; height: number };
  bytes: number;
  mediaType: string;
  model: { name: string; provider: string; inferenceMs: number; processor: string; reused?: boolean };
  matting?: Matting;
  stages: StageTiming[];
  subject?: { left: number; top: number; width: number; height: number };
  shadow?: (typeof SHADOW_OUTCOMES)[number];
}

export interface ImageAnswer {
  imageId: string;
  index: number;
  status: TaskStatus;
  name?: string;
  /** Which version of the picture it is, from 1. */
  version: number;
  repeatOf?: { taskId: string; imageId: string };
  originalUrl: string;
  resultUrl?: string;
  thumbnailUrl?: string;
  alphaUrl?: string;
  metadata?: ImageMetadata;
  error?: ErrorBody;
}

export interface TaskSummary {
  totalImages: number;
  successCount: number;
  failureCount: number;
  cancelledCount: number;
  totalProcessingTime: number;
}

export interface TaskAnswer {
  taskId: string;
  status: TaskStatus;
  submittedAt: string;
  endedAt?: string;
  options: TaskOptions;
  results: ImageAnswer[];
  summary: TaskSummary;
  error?: ErrorBody;
}

/** One version of a picture: an image of a task. */
export interface ImageVersion extends ImageAnswer {
  taskId: string;
  submittedAt: string;
  options: TaskOptions;
}

export interface VersionsAnswer {
  versions: ImageVersion[];
}

export interface TaskPage {
  tasks: TaskAnswer[];
  nextCursor?: string;
}

export interface StageState {
  name: string;
  inputTopics: string[];
  queued: number;
  inRetry: number;
  deadLetters: number;
  processedTotal: number;
  perSecond: number;
  p50Ms?: number | null;
  p95Ms?: number | null;
}

export interface PipelineState {
  at: string;
  stages: StageState[];
  tasksOpen: number;
}

export interface DeadLetter {
  stage: string;
  topic: string;
  partition: number;
  offset: number;
  time: string;
  code?: string | null;
  reason?: string | null;
  message?: string | null;
  eventId?: string | null;
  eventType?: string | null;
  taskId?: string | null;
  imageId?: string | null;
  attempt?: number | null;
  // How often the message had been replayed when it was given up.
  replay?: number | null;
}

export interface Measurement {
  name: string;
  count?: number;
  medianMs?: number | null;
  p95Ms?: number | null;
}

export interface Measurements {
  models: Measurement[];
  stages: Measurement[];
}

export interface Capabilities {
  version: string;
  maxUploadBytes: number;
  maxImagesPerTask: number;
  formats: ImageFormat[];
  qualities: { name: Quality; model: string }[];
  kinds: KindChoice[];
  kafka?: { bootstrapServers: string };
}

// One event of the stream: `id` is its place on the topic, `eventId` its CloudEvents id.
export interface LiveEvent {
  eventId: string;
  type: string;
  time: string;
  data: unknown;
}

export interface StageCompletedData extends StageTiming {
  taskId: string;
  imageId?: string;
}

export interface StageFailedData {
  taskId: string;
  imageId?: string;
  stage: string;
  error: ErrorBody;
}

export interface ImageResultData {
  metadata: ImageMetadata;
}

export interface ImageEndedData {
  taskId: string;
  imageId: string;
  index: number;
  status: TaskStatus;
  result?: ImageResultData;
  error?: ErrorBody;
}

export interface ImageRepairedData {
  taskId: string;
  imageId: string;
  index: number;
  result: ImageResultData;
  summary: TaskSummary;
}

export interface TaskEndedData {
  taskId: string;
  status: TaskStatus;
  summary: TaskSummary;
  error?: ErrorBody;
}
