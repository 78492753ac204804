import { isErrorCode, type ErrorBody, type ErrorCode } from '../protocol/errors.js';
import type { DisconnectData } from '../protocol/frames.js';
import { endOf, errorOf } from './failures.js';
import type { LinkContext, LinkEnd } from './transport.js';

/** What is wrong with a request that a link made by itself: another link, or another transport, may do better. */
const OWN: ReadonlySet<string> = new Set<ErrorCode>([
  'bad_frame',
  'invalid',
  'frame_too_large',
  'send_sequence',
  'send_mismatch',
]);

/** What came back for a request: its JSON, or why there is none. */
export interface Reply {
  readonly status: number;
  /** The body of a success, where it is an object. */
  readonly body?: Readonly<Record<string, unknown>> | undefined;
  /** The hub's own refusal; of a proxy's there is none. */
  readonly error?: ErrorBody | undefined;
  readonly retryAfterMs: number;
  /** Why there is no response. */
  readonly reason?: string;
}

/** Requests of one link to the hub. */
export class HttpWire {
  readonly #context: LinkContext;
  readonly #fetch: typeof fetch;
  /** What later requests bring. */
  token: string | null;

  constructor(context: LinkContext, fetchLike: typeof fetch) {
    this.#context = context;
    this.#fetch = fetchLike;
    this.token = context.token;
  }

  /** The address of a path below the endpoint. */
  url(path: string): URL {
    const url = new URL(this.#context.url);
    url.pathname = url.pathname.replace(/\/*$/, path);
    return url;
  }

  /** Makes a request, with the token. Rejects where there is no response. */
  request(url: URL, init: RequestInit & { headers: Record<string, string> }): Promise<Response> {
    const { headers } = init;
    if (this.token !== null) headers.authorization = `Bearer ${this.token}`;
    const fetchLike = this.#fetch; // as a method of this class the browser's own fetch would refuse to run
    return fetchLike(url.href, { cache: 'no-store', ...init, headers });
  }

  /** Sends JSON. Rejects where there is no response, or only a part of it. */
  async post(path: string, body: string, init: RequestInit = {}): Promise<Reply> {
    const headers = { 'content-type': 'application/json', accept: 'application/json' };
    const response = await this.request(this.url(path), { ...init, method: 'POST', headers, body });
    return readReply(response);
  }
}

/** Reads a response that is no stream. */
export async function readReply(response: Response): Promise<Reply> {
  const { status, ok } = response;
  const read: unknown = await response.json().catch((error: unknown) => {
    if (ok && !(error instanceof SyntaxError)) throw error; // cut while it came
  });
  const body = typeof read === 'object' && read !== null ? (read as Record<string, unknown>) : undefined;
  const error = body?.error as ErrorBody | undefined;
  const retryAfterMs = error?.retryAfterMs ?? (Number(response.headers.get('retry-after')) * 1000 || 0);
  if (ok) return { status, body, retryAfterMs };
  return { status, error: isErrorCode(error?.code) ? error : undefined, retryAfterMs };
}

/** How a refused request ends its link. */
export function endOfReply({ status, error, retryAfterMs, reason = `HTTP status ${status}` }: Reply): LinkEnd {
  // The connection ended while no request of its peer was there to be told.
  const told = (error?.details as { disconnect?: DisconnectData } | undefined)?.disconnect;
  if (error?.code === 'gone' && told) {
    const { code, reason: toldReason, reconnect, delayMs = 0 } = told;
    return { code, reason: toldReason, reconnect, retryAfterMs: delayMs };
  }
  if (error && !OWN.has(error.code)) return { ...endOf(error), retryAfterMs };
  return { code: status === 401 ? 4401 : 1006, reason: error?.code ?? reason, retryAfterMs };
}

/** Stands for the response to a request that got none. */
export function noReply(error: unknown): Reply {
  return { status: 0, retryAfterMs: 0, reason: errorOf(error).message };
}
