import type { Hello, NodeReport, Past } from '../snapshot.js';
import type { Model } from './model.js';

/** Where the page is, without the slash that may stand at its end: all requests go below it. */
const BASE = location.pathname.replace(/\/+$/, '');
/** After how long to try again where the stream was refused, ms. */
const AGAIN_MS = 3_000;
/** After how many intervals without a word a stream is given up: its link may have broken unnoticed. */
const SILENT_INTERVALS = 5;
/** An answer that takes longer is not waited for: its link may have broken unnoticed, ms. */
const ANSWER_MS = 20_000;
/** A stream that is back sooner was renewed, and nothing is wrong, ms. */
const RENEWAL_MS = 2_500;

export type LinkState = 'connecting' | 'live' | 'away' | 'refused';

/** Somebody was not let in. */
let doubted: () => void = () => undefined;

/** What the server answered instead of what was asked for. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

interface Answer {
  readonly error?: { readonly code?: string; readonly message?: string };
}

/** Asks the server. Rejects with a {@link Refused}. */
export async function ask<T>(path: string, query: Readonly<Record<string, string>> = {}): Promise<T> {
  const url = `${BASE}/${path}?${new URLSearchParams(query).toString()}`;
  return request<T>(url, { signal: AbortSignal.timeout(ANSWER_MS) });
}

/** Has the server do something. Rejects with a {@link Refused}. */
export async function act<T>(path: string, body: unknown): Promise<T> {
  const headers = { 'Content-Type': 'application/json' };
  return request<T>(`${BASE}/${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function request<T>(url: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, { ...init, redirect: 'manual' });
  } catch {
    throw new Refused(0, 'unreachable', 'The server cannot be reached');
  }
  const status = statusOf(response);
  if (status === 401 || status === 403) doubted();
  if (status === 401) throw new Refused(status, 'unauthorized', 'You are not let in any more.');
  const answer = (await response.json().catch(() => undefined)) as (T & Answer) | undefined;
  if (response.ok && answer !== undefined) return answer;
  const { code = 'unknown', message = `The server answered ${status}` } = answer?.error ?? {};
  throw new Refused(status, code, message);
}

/** One that leads elsewhere leads to where one signs in. */
function statusOf({ type, status }: Response): number {
  return type === 'opaqueredirect' ? 401 : status;
}

/** A stream of a channel's publications; the returned function ends it. */
export function openTail(
  channel: string,
  events: Readonly<Record<string, (data: unknown) => void>>,
  failed: (closed: boolean) => void,
): () => void {
  const source = new EventSource(`${BASE}/tail?${new URLSearchParams({ channel }).toString()}`);
  for (const [name, take] of Object.entries(events)) {
    source.addEventListener(name, ({ data }: MessageEvent<string>) => take(JSON.parse(data)));
  }
  source.onerror = () => failed(source.readyState === EventSource.CLOSED);
  return () => source.close();
}

/** Keeps a model up to date, for as long as the page is there. */
export class Wire {
  #source: EventSource | undefined;
  #heardAt = 0;
  #worry: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly model: Model,
    private readonly changed: () => void,
    private readonly told: (state: LinkState) => void,
  ) {
    doubted = () => void this.#doubt();
  }

  open(): void {
    const { model } = this;
    this.#source?.close();
    this.#heardAt = performance.now();
    const source = new EventSource(`${BASE}/stream`);
    this.#source = source;
    const on = <T>(event: string, take: (data: T) => void): void => {
      source.addEventListener(event, ({ data }: MessageEvent<string>) => {
        this.#heardAt = performance.now();
        take(JSON.parse(data) as T);
        this.changed();
      });
    };
    on<Hello>('hello', (hello) => {
      model.begin(hello);
      clearTimeout(this.#worry);
      this.#worry = undefined;
      this.told('live');
    });
    on<Past>('past', (past) => model.past(past));
    on<NodeReport>('node', (report) => model.report(report));
    on<{ node: string }>('gone', ({ node }) => model.gone(node));
    source.onerror = () => {
      if (this.#source !== source) return;
      if (source.readyState === EventSource.CLOSED) void this.#refused(source);
      else this.#worry ??= setTimeout(() => this.told('away'), RENEWAL_MS);
    };
  }

  /** Call now and then: a stream that is silent is opened anew. */
  check(): void {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs < SILENT_INTERVALS * (this.model.hello?.intervalMs ?? AGAIN_MS)) return;
    this.told('away');
    this.open();
  }

  /** An EventSource does not tell why it was refused, and does not come back. */
  async #refused(source: EventSource): Promise<void> {
    const refused = await isRefused();
    if (this.#source === source) this.#rest(refused ? 'refused' : 'away');
  }

  /** A stream that is open lives on after its cookie has ended. */
  async #doubt(): Promise<void> {
    const source = this.#source;
    if ((await isRefused()) && this.#source === source && source?.readyState === EventSource.OPEN) {
      this.#rest('refused');
    }
  }

  #rest(state: 'refused' | 'away'): void {
    this.#source?.close();
    clearTimeout(this.#worry);
    this.#worry = undefined;
    this.told(state);
    setTimeout(() => this.open(), AGAIN_MS);
  }
}

async function isRefused(): Promise<boolean> {
  const status = await fetch(location.pathname, { method: 'HEAD', redirect: 'manual' }).then(statusOf, () => 0);
  return status === 401 || status === 403;
}
