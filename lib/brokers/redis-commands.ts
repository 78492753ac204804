import { RealtimeException } from '../protocol/errors.js';
import { SILENCE_MS, type RedisClient } from './redis-client.js';
import type { RedisScript } from './redis-script.js';

/** Bytes of calls that are on their way or wait: past it calls are refused. */
const MAX_BYTES = 64 * 1024 * 1024;
/** How often what Redis refused for a while is tried again. */
const RETRY_MS = 50;
/** What a call costs in bookkeeping besides its payload, in bytes: a bound, not a measurement. */
const CALL_BYTES = 512;

/**
 * What a call does at Redis. `read`: nothing; `repeat`: the same if done twice; `once`: it must not be done twice, so
 * that it is never tried again where it may have been done.
 */
export type Effect = 'read' | 'repeat' | 'once';

/** How a call is to be treated. */
export interface CallOptions {
  readonly effect: Effect;
  /** Calls with the same name are sent in the order in which they were made, also those that are tried again. */
  readonly order?: string;
  /** Bytes of payload. */
  readonly bytes?: number;
}

interface Call {
  readonly send: (client: RedisClient) => Promise<unknown>;
  readonly effect: Effect;
  readonly order: string | undefined;
  readonly bytes: number;
  readonly deadline: number;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Whether an attempt may have been applied. */
  doubtful: boolean;
}

/**
 * Calls to Redis with a certain end: the answer, `broker_unavailable` (nothing was applied) or `outcome_unknown` (it may
 * have been), within `timeoutMs` and one attempt. What waits for Redis waits here, bounded, and never in ioredis.
 */
export class RedisCommands {
  private waiting: Call[] = [];
  /** How many calls of each order wait. */
  private readonly blocked = new Map<string, number>();
  private bytes = 0;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  private corked = false;

  constructor(
    private readonly client: RedisClient,
    private readonly timeoutMs: number,
  ) {
    client.redis.on('ready', () => this.retry());
  }

  /** Runs a script: by its digest, and by its source where Redis does not know it. */
  run(
    { sha, source }: RedisScript,
    keys: readonly string[],
    args: readonly (string | number)[],
    options: CallOptions,
  ): Promise<unknown> {
    return this.call(({ redis }) => {
      return redis.evalsha(sha, keys.length, ...keys, ...args).catch((error: unknown) => {
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
        return redis.eval(source, keys.length, ...keys, ...args);
      });
    }, options);
  }

  /** Makes a call. */
  call<T>(send: (client: RedisClient) => Promise<T>, { effect, order, bytes = 0 }: CallOptions): Promise<T> {
    return new Promise<unknown>((resolve, reject) => {
      const size = CALL_BYTES + bytes;
      const refusal = this.closed ? 'The session is closed' : 'Too much waits for Redis';
      if (this.closed || this.bytes + size > MAX_BYTES) {
        reject(unavailable(refusal));
        return;
      }
      this.bytes += size;
      const deadline = performance.now() + this.timeoutMs;
      const call: Call = { send, effect, order, bytes: size, deadline, resolve, reject, doubtful: false };
      if (!this.client.ready || (order !== undefined && this.blocked.has(order))) this.wait(call);
      else this.attempt(call);
    }) as Promise<T>;
  }

  /** Refuses all that waits and all that comes. */
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const call of this.waiting) this.fail(call, 'The session is closed');
    this.waiting = [];
  }

  private attempt(call: Call): void {
    this.cork();
    let settled = false;
    const settle = (act: () => void): void => {
      if (settled) return;
      settled = true;
      clearTimeout(limit);
      act();
    };
    // ioredis limits the time from writing on; in a Cluster a call may wait for its master before.
    const limit = this.client.sharded
      ? setTimeout(() => settle(() => this.failed(call, 'Redis did not answer in time')), SILENCE_MS).unref()
      : undefined;
    call.send(this.client).then(
      (answer) =>
        settle(() => {
          this.bytes -= call.bytes;
          call.resolve(answer);
        }),
      (error: unknown) => settle(() => this.failed(call, error instanceof Error ? error.message : String(error))),
    );
  }

  /** One write for all calls of a turn: a system call costs as much as several commands. */
  private cork(): void {
    const { stream } = this.client;
    if (this.corked || stream === undefined) return;
    this.corked = true;
    stream.cork();
    process.nextTick(() => {
      this.corked = false;
      stream.uncork();
    });
  }

  private failed(call: Call, message: string): void {
    const verdict = judge(message);
    if (verdict === 'lost' && call.effect !== 'read') call.doubtful = true;
    if (message.startsWith('READONLY')) this.client.reconnect();
    const again = verdict === 'refused' || (verdict === 'lost' && call.effect !== 'once');
    if (again && !this.closed && performance.now() < call.deadline) this.wait(call);
    else this.fail(call, message);
  }

  private fail(call: Call, message: string): void {
    this.bytes -= call.bytes;
    call.reject(
      call.doubtful
        ? new RealtimeException('outcome_unknown', `It is not known whether Redis applied this: ${message}`)
        : unavailable(`Redis applied nothing: ${message}`),
    );
  }

  private wait(call: Call): void {
    this.waiting.push(call);
    if (call.order !== undefined) this.blocked.set(call.order, (this.blocked.get(call.order) ?? 0) + 1);
    this.timer ??= setTimeout(() => this.retry(), RETRY_MS).unref();
  }

  /** Sends what waits, in order, or gives it up. */
  private retry(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const calls = this.waiting;
    const now = performance.now();
    this.waiting = [];
    this.blocked.clear();
    for (const call of calls) {
      if (now >= call.deadline) this.fail(call, 'it cannot be reached');
      else if (this.client.ready) this.attempt(call);
      else this.wait(call);
    }
  }
}

function unavailable(message: string): RealtimeException {
  return new RealtimeException('broker_unavailable', message);
}

/** Replies by which Redis, or ioredis in its place, says that nothing was applied and that it may be later. */
const REFUSED =
  /^(TRYAGAIN|MOVED|ASK|CLUSTERDOWN|LOADING|READONLY|MASTERDOWN|BUSY|OOM|MISCONF|NOREPLICAS|NOSCRIPT|UNBLOCKED)\b/;
const NOT_SENT = /enableOfflineQueue options is false|^Too many Cluster redirections|^Cluster is ended|startup nodes/;
/** Any other reply of Redis begins with a word in capitals. */
const REPLY = /^[A-Z]{3,}\b/;

/** What an error says: nothing was applied, try again; it may have been applied; nothing, and no use to try again. */
function judge(message: string): 'refused' | 'lost' | 'hopeless' {
  if (REFUSED.test(message) || NOT_SENT.test(message)) return 'refused';
  return REPLY.test(message) ? 'hopeless' : 'lost';
}
