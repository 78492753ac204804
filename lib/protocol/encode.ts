import type { ErrorBody } from './errors.js';
import type { ChannelEventFrame, FrameId } from './frames.js';

/*
 * Writers of frames, as JSON text. Publications are built by concatenation around the stored data, so that a
 * publication is encoded once, however many receive it.
 */

/** JSON text of a value; what JSON cannot hold (undefined, functions) is `null`. Throws for cycles and BigInt. */
export function toJson(value: unknown): string {
  return JSON.stringify(value) ?? 'null';
}

/** Hub → peer: `{ channel, event, data, offset, tag }`; `data` is JSON text already. */
export function encodePublication(
  channelJson: string,
  eventJson: string,
  data: string,
  offset: number,
  tag: string,
): string {
  return `{"channel":${channelJson},"event":${eventJson},"data":${data},"offset":${offset},"tag":"${tag}"}`;
}

/** Hub → peer: `{ channel, skipped, offset, tag }`. */
export function encodeSkipped(channelJson: string, skipped: number, offset: number, tag: string): string {
  return `{"channel":${channelJson},"skipped":${skipped},"offset":${offset},"tag":"${tag}"}`;
}

/** Hub → peer: `$lost`, `$unsubscribed` or `$presence` of a channel. */
export function encodeChannelEvent(channelJson: string, event: ChannelEventFrame['event'], data: unknown): string {
  return `{"channel":${channelJson},"event":"${event}","data":${toJson(data)}}`;
}

/** Hub → peer: an answer; `data` is JSON text already. `more` marks a value of a stream. */
export function encodeAnswer(id: FrameId, data: string, more = false): string {
  return `{"id":${JSON.stringify(id)},"data":${data}${more ? ',"more":true}' : '}'}`;
}

/** Hub → peer: the end of a stream. */
export function encodeDone(id: FrameId): string {
  return `{"id":${JSON.stringify(id)},"done":true}`;
}

/**
 * Hub → peer: an error, as the answer to `id`, or as `exception` where there is none. `details` that JSON cannot hold are
 * left out.
 */
export function encodeError(id: FrameId | undefined, error: ErrorBody): string {
  const frame = id !== undefined ? { id, error } : { event: 'exception', data: { status: 'error', ...error } };
  try {
    return JSON.stringify(frame);
  } catch {
    const { details: _, ...rest } = error;
    return encodeError(id, rest);
  }
}

/** Hub → peer: an event; `data` is left out where it is undefined. */
export function encodeEvent(event: string, data?: unknown): string {
  return data === undefined
    ? `{"event":${JSON.stringify(event)}}`
    : `{"event":${JSON.stringify(event)},"data":${toJson(data)}}`;
}
