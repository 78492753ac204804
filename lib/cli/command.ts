import { WebSocket } from 'ws';
import { RealtimeClient } from '../client/client.js';
import type { ClientOptions, TransportName } from '../client/options.js';
import type { WebSocketConstructor } from '../client/websocket.transport.js';
import { UsageError, type Arguments, type CommandHelp } from './arguments.js';

/** Where a command writes, and what ends it. */
export interface Terminal {
  /** What was asked for, a line each. */
  readonly out: (line: string) => void;
  /** What is said beside it. */
  readonly note: (line: string) => void;
  /** How far it is: shown in place of what was shown before, and only to people. */
  readonly progress: (text: string) => void;
  /** Aborts when the user has had enough. */
  readonly signal: AbortSignal;
}

/** A command of the command line. */
export interface Command extends CommandHelp {
  /** It goes on until it is interrupted, so that its exit code counts then too. */
  readonly endless?: true;
  /** Resolves with the exit code; soon, with nothing left running, where the terminal's signal aborts. */
  run(args: Arguments, terminal: Terminal): Promise<number>;
}

const TRANSPORTS: readonly string[] = ['websocket', 'sse', 'long-polling'] satisfies TransportName[];

/** The hub's URL. Throws {@link UsageError}. */
export function urlOf(args: Arguments): URL {
  const text = args.text('url')!;
  if (!URL.canParse(text)) throw new UsageError(`--url is no URL: "${text}"`);
  const url = new URL(text);
  url.protocol = url.protocol.replace(/^ws/, 'http');
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new UsageError(`--url is http or https, not "${text}"`);
  return url;
}

/** The headers that prove who asks. */
export function credentialsOf(args: Arguments): Record<string, string> {
  const token = args.text('token');
  return token === undefined ? {} : { Authorization: `Bearer ${token}` };
}

/** A client of the hub. The caller closes it. Throws {@link UsageError}. */
export function makeClient(args: Arguments, options: ClientOptions = {}): RealtimeClient {
  const transport = args.text('transport');
  if (transport !== undefined && !TRANSPORTS.includes(transport)) {
    throw new UsageError(`--transport is one of ${TRANSPORTS.join(', ')}, not "${transport}"`);
  }
  const token = args.text('token');
  return new RealtimeClient(urlOf(args), {
    WebSocket: WebSocket as unknown as WebSocketConstructor,
    ...(token === undefined ? {} : { token }),
    ...(transport === undefined ? {} : { transports: [transport as TransportName] }),
    ...options,
  });
}

/** How long a hub may take to let a client in for the first time, ms. */
const REACH_MS = 10_000;

/** What a client does; rejects with why its attempts fail where it has not been let in for {@link REACH_MS}. */
export async function reaching<T>(client: RealtimeClient, work: Promise<T>): Promise<T> {
  let why = 'no answer';
  let timer: NodeJS.Timeout | undefined;
  const unreached = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`the hub cannot be reached: ${why}`)), REACH_MS);
  });
  const forget = client.on('state', (state, { reason }) => {
    if (state === 'open') clearTimeout(timer);
    if (reason !== undefined && reason !== '') why = reason;
  });
  if (client.state === 'open') clearTimeout(timer);
  try {
    return await Promise.race([work, unreached]);
  } finally {
    clearTimeout(timer);
    forget();
  }
}

/** Reads JSON; what is none is text. */
export function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** What is at a path below the hub's. */
export function below(url: URL, subpath: string): URL {
  const target = new URL(url);
  target.pathname = `${url.pathname.replace(/\/$/, '')}/${subpath}`;
  return target;
}

/** What took longer than it may. */
export class LateError extends Error {}

/** Resolves after so many ms, or when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}

/** Rejects with a {@link LateError} where something takes longer than so many ms. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new LateError(`took longer than ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
