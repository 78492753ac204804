import '../../../lib/client/http.transports.js'; // loaded, so that no test waits for it
import { RealtimeClient, type ClientOptions } from '../../../lib/client/index.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

/** A request that waits for the test to answer it. */
export interface HttpCall {
  readonly at: number;
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: any;
  readonly keepalive: boolean;
  readonly signal: AbortSignal | undefined;
  answered: boolean;
  answer(status: number, body?: unknown, headers?: Record<string, string>): void;
  /** Breaks the network. */
  fail(): void;
}

/** `fetch`, answered by the test or by `onCall`. */
export class FakeHttp {
  readonly calls: HttpCall[] = [];
  onCall: (call: HttpCall) => void = () => {};

  constructor(private readonly clock: ManualClock) {}

  readonly fetch = ((url: string, init: RequestInit) => {
    const { signal, method = 'GET', body, keepalive = false } = init;
    let resolve!: (response: Response) => void;
    let reject!: (error: Error) => void;
    const promise = new Promise<Response>((...settle) => ([resolve, reject] = settle));
    signal?.addEventListener('abort', () => reject(new Error('aborted')));
    const call: HttpCall = {
      at: this.clock.now(),
      method,
      url: new URL(url),
      headers: init.headers as Record<string, string>,
      body: typeof body === 'string' ? JSON.parse(body) : undefined,
      keepalive,
      signal: signal ?? undefined,
      answered: false,
      answer(status, data, headers = {}) {
        this.answered = true;
        const text = typeof data === 'string' ? data : JSON.stringify(data);
        resolve(new Response(text, { status, headers }));
      },
      fail() {
        this.answered = true;
        reject(new TypeError('fetch failed'));
      },
    };
    this.calls.push(call);
    queueMicrotask(() => this.onCall(call));
    return promise;
  }) as typeof fetch;

  /** Requests to a path below the endpoint that nobody has answered. */
  open(path: string): HttpCall[] {
    return this.calls.filter(
      ({ url, answered, signal }) => url.pathname.endsWith(path) && !answered && !signal?.aborted,
    );
  }

  to(path: string): HttpCall[] {
    return this.calls.filter(({ url }) => url.pathname.endsWith(path));
  }

  /** The one request to this path that waits. */
  the(path: string): HttpCall {
    const [call, ...more] = this.open(path);
    if (!call || more.length > 0) throw new Error(`${more.length + (call ? 1 : 0)} requests to ${path} wait`);
    return call;
  }
}

/** A client over HTTP, on a manual clock. */
export function makeHttpRig(options: ClientOptions = {}) {
  const clock = new ManualClock(1_700_000_000_000);
  const http = new FakeHttp(clock);
  const client = new RealtimeClient('https://example.com/realtime?tenant=7', {
    clock,
    random: () => 0.5,
    transports: ['long-polling'],
    fetch: http.fetch,
    wakeUps: () => () => {},
    ...options,
  });
  const errors: Error[] = [];
  const states: string[] = [];
  client.on('error', (error) => errors.push(error));
  client.on('state', (state) => states.push(state));
  /** Runs what is due, bodies included: they take a few turns. */
  const settle = async (ms = 0) => {
    for (let turn = 0; turn < 6; turn++) await clock.pass(turn === 0 ? ms : 0);
  };
  return { clock, http, client, errors, states, settle };
}

/** The answer to the first poll. */
export function established(channels: Record<string, any> = {}, pass = 'pass-1') {
  const data = { connection: 'c1', heartbeatMs: 25_000, timeoutMs: 8_000, maxFrameBytes: 65_536, channels };
  const positions = Object.entries(channels).filter(([, answer]) => answer.position !== undefined);
  return {
    frames: [{ event: '$connected', data }],
    pass,
    positions: Object.fromEntries(positions.map(([name, answer]) => [name, answer.position])),
    inbox: 0,
  };
}
