import type { Position } from '../protocol/position.js';
import type { IncomingFrame, LinkEnd } from './transport.js';

/** What the link of a tab tells the tab that holds the connection: a frame, or without one, whether it is there. */
export interface ToHolder {
  readonly from: string;
  readonly text?: string;
}

/** What the tab that holds the connection tells links, by their names; without more: that it is there. */
export interface ToLinks {
  readonly to: readonly string[];
  readonly frame?: IncomingFrame;
  readonly end?: LinkEnd;
}

/** What the tab that holds the connection tells all: `new`: it has just begun to hold it · `open`: the connection is open. */
export interface ToAll {
  readonly holder: 'new' | 'open';
}

export type TabMessage = ToHolder | ToLinks | ToAll;

/** The offset of a position. */
export function offsetOf(position: Position): number {
  return Number(position.split('-')[1]);
}

/** The lock that a link has for as long as its page and itself are there. */
export function lockOf(link: string): string {
  return `nestjs-realtime link ${link}`;
}
