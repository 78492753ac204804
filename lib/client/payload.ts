import { peerRow, type CodedException } from '../protocol/errors.js';
import type { Position } from '../protocol/position.js';
import type { Backoff } from './backoff.js';
import type { ClientClock } from './clock.js';
import { exceptionOf } from './failures.js';
import type { TokenSource } from './token.js';

/** What fetching needs of the client's options. */
interface Settings {
  readonly url: URL;
  readonly fetch: typeof fetch | undefined;
  readonly clock: ClientClock;
  readonly backoff: Backoff;
}

/**
 * The data that a reference stands for. What passes is tried again until `isOver`; then it rejects, and with the hub's
 * code where that is its last word.
 */
export async function fetchPayload(
  { url, fetch: fetchLike = fetch, clock, backoff }: Settings,
  token: TokenSource,
  channel: string,
  since: Position,
  isOver: () => boolean,
): Promise<unknown> {
  const target = new URL(url);
  target.pathname = target.pathname.replace(/\/*$/, '/payload');
  target.searchParams.set('channel', channel);
  target.searchParams.set('since', since);
  for (let failures = 1; ; failures++) {
    let retryAfterMs = 0;
    try {
      const bearer = await token.get();
      const headers = bearer === null ? {} : { authorization: `Bearer ${bearer}` };
      const response = await fetchLike(target, { headers });
      const body = (await response.json()) as { error?: object };
      if (response.ok) return body;
      const error = exceptionOf(body.error);
      const { retry } = peerRow(error.code);
      if (retry === 'token' && failures === 1) token.renew();
      else if (retry !== 'yes' && retry !== 'connection') throw error;
      retryAfterMs = error.retryAfterMs ?? 0;
    } catch (error) {
      if ((error as Partial<CodedException>).code !== undefined || isOver()) throw error;
    }
    await new Promise<void>((resolve) => clock.after(Math.max(retryAfterMs, backoff.delayMs(failures)), resolve));
    if (isOver()) throw new Error('Nobody waits any more');
  }
}
