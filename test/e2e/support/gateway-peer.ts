import { WebSocket, type ClientOptions } from 'ws';
import type { RunningApp } from './platforms.js';

/** A frame as a peer reads it; text that is no JSON stays text. */
export type Frame = any;

/** A plain WebSocket peer that keeps what it gets until a test asks for it. */
export class Peer {
  readonly #frames: Frame[] = [];
  readonly #waiting: ((frame: Frame) => void)[] = [];
  #id = 1_000_000;
  /** How the connection ended. */
  readonly closed: Promise<{ code: number; reason: string }>;

  constructor(readonly socket: WebSocket) {
    socket.on('message', (bytes: Buffer) => {
      const frame = parse(bytes.toString());
      const next = this.#waiting.shift();
      if (next === undefined) this.#frames.push(frame);
      else next(frame);
    });
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }

  send(frame: Frame): void {
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  /** The next frame that has not been asked for. */
  next(): Promise<Frame> {
    const frame = this.#frames.shift();
    return frame === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(frame);
  }

  /** Sends a request and waits for the next frame. */
  request(event: string, data?: unknown, id: number | string = ++this.#id): Promise<Frame> {
    this.send({ id, event, data });
    return this.next();
  }

  /**
   * What came until the hub answered two requests, one after the other: the first comes back when everything that
   * earlier frames caused in their own turn has happened, the second when that has arrived.
   */
  async settle(): Promise<Frame[]> {
    return [...(await this.#barrier()), ...(await this.#barrier())];
  }

  async #barrier(): Promise<Frame[]> {
    const id = `barrier-${String(++this.#id)}`;
    this.send({ id, event: '$cancel', data: { id: 0 } });
    const before: Frame[] = [];
    for (;;) {
      const frame = await this.next();
      if (frame?.id === id) return before;
      before.push(frame);
    }
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }
}

/** How an upgrade was refused. */
export interface Refused {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: any;
}

/** Connects to an application, and takes the greeting. */
export async function connect(
  { port }: Pick<RunningApp, 'port'>,
  path = '/realtime',
  options: ClientOptions = {},
): Promise<Peer> {
  const peer = open(port, path, options);
  const greeting = await Promise.race([peer.next(), peer.closed]);
  if (greeting?.event !== '$connected') throw new Error(`Not connected: ${JSON.stringify(greeting)}`);
  return peer;
}

/** Connects without waiting for anything. */
export function open(port: number, path = '/realtime', options: ClientOptions = {}): Peer {
  return new Peer(new WebSocket(`ws://127.0.0.1:${String(port)}${path}`, options));
}

/** Connects where that is refused. */
export function refused(
  { port }: Pick<RunningApp, 'port'>,
  path = '/realtime',
  options: ClientOptions = {},
): Promise<Refused> {
  const socket = new WebSocket(`ws://127.0.0.1:${String(port)}${path}`, options);
  return new Promise((resolve, reject) => {
    socket.once('open', () => {
      socket.terminate();
      reject(new Error('The upgrade was not refused'));
    });
    socket.once('error', () => undefined);
    socket.once('unexpected-response', (request, response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString()));
      response.on('end', () => {
        request.destroy();
        resolve({ status: response.statusCode!, headers: response.headers, body: parse(text) });
      });
    });
  });
}

function parse(text: string): Frame {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
