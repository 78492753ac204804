import type { ErrorBody, ErrorCode } from './errors.js';
import type { Position } from './position.js';

/** The longest `event` of a frame, in characters. */
export const MAX_EVENT_LENGTH = 128;
/** The longest channel name, in characters. */
export const MAX_CHANNEL_LENGTH = 200;
/** The longest idempotency key, in characters. */
export const MAX_KEY_LENGTH = 128;
/** The longest textual frame id, in characters. */
export const MAX_ID_LENGTH = 64;

/** What correlates a request with its answers: an integer from 0 to 2^53−1, or text of 1–64 characters. */
export type FrameId = number | string;

/** Peer → hub: a request (with `id`) or a plain event. Events that start with `$` are reserved. */
export interface InboundFrame {
  id?: FrameId;
  event: string;
  data?: unknown;
  /** The peer's W3C trace context, where it is one: what is none is ignored. */
  traceparent?: unknown;
}

/** What is wrong with a frame, and its `id` where that could be read. */
export interface BadFrame {
  bad: string;
  id?: FrameId;
}

/** Tells whether a value may be the `id` of a frame. */
export function isFrameId(id: unknown): id is FrameId {
  if (typeof id === 'number') return Number.isSafeInteger(id) && id >= 0 && !Object.is(id, -0);
  return typeof id === 'string' && id.length >= 1 && id.length <= MAX_ID_LENGTH;
}

/** How deep arrays and objects of a frame may lie in each other, the frame itself included. */
const MAX_DEPTH = 64;

/** Reads a frame from a peer. Never throws and never repeats what the peer sent. */
export function parseFrame(text: string): InboundFrame | BadFrame {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { bad: 'The frame is not JSON' };
  }
  return checkFrame(value, text);
}

/** Checks a value, whose JSON text is given too, as a frame from a peer. Never throws and never repeats what it says. */
export function checkFrame(value: unknown, text: string): InboundFrame | BadFrame {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { bad: 'The frame is not an object' };
  const { id, event } = value as { id?: unknown; event?: unknown };
  if (id !== undefined && !isFrameId(id)) {
    return { bad: 'The id must be an integer from 0 to 2^53-1 or text of 1 to 64 characters' };
  }
  if (typeof event !== 'string' || event === '' || event.length > MAX_EVENT_LENGTH) {
    const bad = `The event must be text of 1 to ${MAX_EVENT_LENGTH} characters`;
    return id === undefined ? { bad } : { bad, id };
  }
  if (isTooDeep(text)) {
    const bad = `The frame is nested more than ${MAX_DEPTH} levels deep`;
    return id === undefined ? { bad } : { bad, id };
  }
  return value as InboundFrame;
}

/** Whether valid JSON text is nested too deep, for pipes and handlers that walk through data level by level. */
export function isTooDeep(json: string, maxDepth = MAX_DEPTH): boolean {
  if (json.length <= 2 * maxDepth) return false;
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    switch (json.charCodeAt(at)) {
      case 0x22: // "
        at = endOfText(json, at);
        break;
      case 0x5b: // [
      case 0x7b: // {
        if (++depth > maxDepth) return true;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
    }
  }
  return false;
}

/** The quote that ends a text. */
function endOfText(json: string, start: number): number {
  for (let end = json.indexOf('"', start + 1); ; end = json.indexOf('"', end + 1)) {
    let escapes = end;
    while (json.charCodeAt(escapes - 1) === 0x5c) escapes--;
    if ((end - escapes) % 2 === 0) return end;
  }
}

/** Hub → peer: the answer to a request; `more` marks a value of a stream, `done` its end. */
export type AnswerFrame =
  { id: FrameId; data: unknown; more?: true } | { id: FrameId; done: true } | { id: FrameId; error: ErrorBody };

/** Hub → peer: a publication of a subscribed channel. Nothing in it depends on the receiver. */
export interface PublicationFrame {
  channel: string;
  event: string;
  data: unknown;
  offset: number;
  tag: string;
}

/** Hub → peer: `skipped` publications up to `offset` were withheld from this subscriber; that is no loss. */
export interface SkippedFrame {
  channel: string;
  skipped: number;
  offset: number;
  tag: string;
}

/** Hub → peer: something about a subscribed channel: `$lost`, `$unsubscribed`, `$presence`. */
export interface ChannelEventFrame {
  channel: string;
  event: '$lost' | '$unsubscribed' | '$presence';
  data: unknown;
}

/** Hub → peer: `$connected`, `$ping`, `$refresh`, `$disconnect`, `exception`, and events of the application. */
export interface EventFrame {
  event: string;
  data?: unknown;
}

/** `$connected`: the connection is open; what the hub expects of the peer. */
export interface ConnectedData {
  connection: string;
  heartbeatMs: number;
  timeoutMs: number;
  /** The largest frame that the hub takes; `null`: there is no limit. */
  maxFrameBytes: number | null;
  user?: { id: string };
  /** SSE with `format=frames` only: what became of the cursor, and the answer of each channel. */
  cursor?: 'none' | 'used' | 'ignored';
  channels?: Record<string, SubscribeData>;
}

/** `$disconnect`: the hub is about to close; `reconnect` tells whether to come back, `delayMs` after how long. */
export interface DisconnectData {
  code: number;
  reason: string;
  reconnect: boolean;
  delayMs?: number;
}

/** The answer to `$subscribe`. `recovered` is there only if `since` was given. */
export interface SubscribeData {
  /** `recovered: true`: the given position, what was missed follows; otherwise where live begins. */
  position: Position;
  recovered?: boolean;
  /** Where what was missed ends. */
  until?: Position;
  /** Publications kept; 0 without history. */
  size: number;
  /** How long they are kept after the channel's last publication, ms; 0 without history. */
  windowMs: number;
}

/** Why publications were lost: `overflow` is this node's own bound, the others are the broker's word. */
export type LostReason = 'trimmed' | 'diverged' | 'epoch' | 'overflow';

/** `$lost`: publications were lost; live goes on after `position`. */
export interface LostData {
  position: Position;
  reason: LostReason;
}

/** `$unsubscribed`: the hub ended the subscription; `resubscribe` tells whether trying again makes sense. */
export interface UnsubscribedData {
  code: ErrorCode;
  reason: string;
  resubscribe: boolean;
}

/** `$presence`: the members changed; above 200 members only `prev`, `rev` and `count` come. */
export interface PresenceData {
  /** The revision before the merged changes: another one than the peer knows means that it has to ask again. */
  prev: number;
  rev: number;
  count: number;
  joined?: { id: string; info: unknown }[];
  left?: string[];
}

/** The answer to `$presence`. */
export interface PresenceAnswer {
  rev: number;
  count: number;
  users: PresenceMember[];
}

/** A member of a channel: a user with all devices merged, or an anonymous client. */
export interface PresenceMember {
  id: string;
  info: unknown;
  /** How many connections the member has in the channel. */
  connections: number;
}

/** Peer → hub: the data of `$resume`, one frame for a whole reconnect. */
export interface ResumeData {
  token?: string;
  client: string;
  pass?: string;
  inbox?: number;
  channels: Record<string, Position | null>;
}

/** The answer to `$resume`. */
export interface ResumeAnswer {
  connection: string;
  channels: Record<string, SubscribeData | { error: ErrorBody }>;
}
