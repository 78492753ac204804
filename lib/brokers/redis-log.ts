import type { AppendItem, AppendResult, ReadResult, Retention, StoredItem } from '../hub/ports/broker.js';
import { formatPosition, makeEpoch, parsePosition, type Position } from '../protocol/position.js';
import type { RedisCommands } from './redis-commands.js';
import { encodeParts } from './redis-envelope.js';
import type { RedisKeys } from './redis-keys.js';
import { APPEND, NEWEST, READ, TOPS } from './redis-log-scripts.js';
import { sharded } from './redis-script.js';

/** Ten years: Redis refuses times that overflow, and `Infinity`. */
const MAX_TTL_MS = 315_360_000_000;
/** Channels whose tops are read in one call. */
const TOPS_PER_CALL = 64;
const SHARDED_APPEND = sharded(APPEND);

type Entry = [id: string, fields: string[]];

/** The logs of channels in Redis. */
export class RedisLog {
  private readonly metaTtl: string;

  constructor(
    private readonly commands: RedisCommands,
    private readonly keys: RedisKeys,
    private readonly isSharded: boolean,
    metaTtlMs: number,
  ) {
    this.metaTtl = ttl(metaTtlMs);
  }

  async append(
    channel: string,
    retention: Retention,
    tag: string,
    items: readonly AppendItem[],
    note = '',
  ): Promise<AppendResult> {
    const { lengths, body, bytes } = encodeParts(items);
    const { size, ttlMs, metaTtlMs } = retention;
    const keyed = items.filter(({ key }) => key !== undefined).length;
    const answer = (await this.commands.run(
      this.isSharded ? SHARDED_APPEND : APPEND,
      size > 0 ? [this.keys.meta(channel), this.keys.stream(channel)] : [this.keys.meta(channel)],
      [
        makeEpoch(),
        tag,
        parseInt(tag, 36),
        size,
        ttl(ttlMs),
        ttl(Math.max(metaTtlMs, 2 * ttlMs)),
        items.length,
        lengths,
        body,
        note === '' ? '' : ` ${note}`,
        ...(keyed === 0 ? [] : items.map(({ key }) => (key === undefined ? '' : `k:${key}`))),
      ],
      // A call whose publications all have keys adds nothing when it is made again.
      { effect: keyed === items.length ? 'repeat' : 'once', order: channel, bytes },
    )) as string;
    return readAnswer(answer, tag, items.length);
  }

  async read(channel: string, position: Position | null, limit: number): Promise<ReadResult> {
    if (position === null) {
      const [top] = await this.tops([channel]);
      return { status: 'ok', top: top!, items: [], more: false };
    }
    const parts = parsePosition(position) ?? { epoch: '', offset: 0, tag: '' };
    const [status, top, entries] = (await this.commands.run(
      READ,
      [this.keys.meta(channel), this.keys.stream(channel)],
      [this.metaTtl, makeEpoch(), parts.epoch, parts.offset, parts.tag, decimalTag(parts.tag), limit + 1],
      { effect: 'read', order: channel },
    )) as [ReadResult['status'], Position, Entry[]];
    return { status, top, items: entries.slice(0, limit).map(readEntry), more: entries.length > limit };
  }

  async newest(channel: string, limit: number): Promise<{ top: Position; items: readonly StoredItem[] }> {
    const [top, entries] = (await this.commands.run(
      NEWEST,
      [this.keys.meta(channel), this.keys.stream(channel)],
      [this.metaTtl, makeEpoch(), Math.max(1, limit)],
      { effect: 'read', order: channel },
    )) as [Position, Entry[]];
    return { top, items: entries.slice(0, limit).map(readEntry).reverse() };
  }

  async tops(channels: readonly string[]): Promise<readonly Position[]> {
    // The keys of one call share a slot in a Cluster: there a call per channel it is.
    const perCall = this.isSharded ? 1 : TOPS_PER_CALL;
    const calls: Promise<unknown>[] = [];
    for (let i = 0; i < channels.length; i += perCall) {
      const page = channels.slice(i, i + perCall);
      const keys = page.map((channel) => this.keys.meta(channel));
      const args = [this.metaTtl, ...page.map(() => makeEpoch())];
      const order = perCall === 1 || channels.length === 1 ? { order: page[0]! } : {};
      calls.push(this.commands.run(TOPS, keys, args, { effect: 'read', ...order }));
    }
    return (await Promise.all(calls)).flat() as Position[];
  }
}

function ttl(ms: number): string {
  return String(Math.ceil(Math.min(ms, MAX_TTL_MS)));
}

/** A tag as it stands in the ids of the stream; `-`, which is in none, for text that is no tag of ours. */
function decimalTag(tag: string): string {
  const value = parseInt(tag, 36);
  return value.toString(36) === tag ? String(value) : '-';
}

function readAnswer(answer: string, tag: string, count: number): AppendResult {
  const [epoch, offset, prevTag, ...repeats] = answer.split(' ') as [string, string, string, ...string[]];
  const prev = { offset: Number(offset), tag: prevTag };
  let last = prev.offset;
  const results: AppendResult['results'][number][] = [];
  for (let i = 0; i < count; i++) {
    const known = repeats[i];
    if (known === undefined || known === '+') {
      results.push({ position: formatPosition(epoch, ++last, tag), repeated: false });
    } else {
      results.push({ position: `${epoch}-${known}`, repeated: true });
    }
  }
  return { epoch, prev, tag, results };
}

function readEntry([id, [, event, , data, , exclude]]: Entry): StoredItem {
  const dash = id.indexOf('-');
  const item = {
    offset: Number(id.slice(0, dash)),
    tag: Number(id.slice(dash + 1)).toString(36),
    event: event!,
    data: data!,
  };
  return exclude === undefined ? item : { ...item, exclude };
}
