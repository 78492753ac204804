import { describe, expect, test } from '@jest/globals';
import type { Publication } from '../../../lib/client/index.js';
import { secret } from '../../support/secrets.js';
import { answer, makeRig, position, type FakeLink, type Rig } from './fake-transport.js';

interface Asked {
  readonly url: string;
  readonly token: string | undefined;
  respond(status: number, body: unknown): void;
  fail(): void;
}

/** What is fetched waits until the test answers it. */
class Fetches {
  readonly #asked: Asked[] = [];
  readonly #waiting: ((asked: Asked) => void)[] = [];

  readonly fetch = ((url: URL, { headers }: { headers: Record<string, string> }) =>
    new Promise<Response>((resolve, reject) => {
      const asked: Asked = {
        url: String(url),
        token: headers.authorization,
        respond: (status, body) => resolve(new Response(JSON.stringify(body), { status })),
        fail: () => reject(new TypeError('fetch failed')),
      };
      const next = this.#waiting.shift();
      if (next === undefined) this.#asked.push(asked);
      else next(asked);
    })) as unknown as typeof fetch;

  next(): Promise<Asked> {
    const asked = this.#asked.shift();
    return asked === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(asked);
  }

  get count(): number {
    return this.#asked.length;
  }
}

interface Live extends Rig {
  readonly fetches: Fetches;
  readonly link: FakeLink;
  /** Everything that the channels tell, in order. */
  next(): Promise<unknown>;
  refer(offset: number): void;
}

/** A rig with the channels `chat`, at offset 10, and `other`. */
async function live(options: Parameters<typeof makeRig>[0] = {}): Promise<Live> {
  const fetches = new Fetches();
  const rig = makeRig({ fetch: fetches.fetch, ...options });
  const told: unknown[] = [];
  const waiting: ((value: unknown) => void)[] = [];
  const tell = (value: unknown): void => {
    const next = waiting.shift();
    if (next === undefined) told.push(value);
    else next(value);
  };
  void rig.client.connect();
  await rig.clock.settle();
  rig.transport.link.open();
  for (const [name, offset] of [
    ['chat', 10],
    ['other', 0],
  ] as const) {
    const channel = rig.client.channel(name);
    channel.on('*', (data, { offset: at }: Publication) => tell([name, at, data]));
    for (const signal of ['lost', 'skipped', 'recovered'] as const) channel.on(signal, (data) => tell([signal, data]));
    channel.on('error', ({ code }) => tell(['error', code]));
    await rig.clock.settle();
    rig.transport.link.answer('$subscribe', answer(offset));
    await rig.clock.settle();
  }
  const { link } = rig.transport;
  return {
    ...rig,
    fetches,
    link,
    next: () => (told.length > 0 ? Promise.resolve(told.shift()) : new Promise((resolve) => waiting.push(resolve))),
    refer: (offset) => link.publication('chat', offset, { $payload: { since: position(offset - 1), bytes: 99 } }),
  };
}

/** Answers by which the client comes again, each with the least time that it then waits. */
const PASSING: [string, (asked: Asked) => void, number][] = [
  ['the network fails', (asked) => asked.fail(), 0],
  ['a proxy answers', (asked) => asked.respond(502, 'Bad gateway'), 0],
  ['the broker is away', (asked) => asked.respond(503, { error: { code: 'broker_unavailable' } }), 0],
  [
    'it is one too many',
    (asked) => asked.respond(429, { error: { code: 'rate_limited', retryAfterMs: 60_000 } }),
    60_000,
  ],
];

describe('large data', () => {
  test('is fetched, and what follows in its channel waits; other channels do not', async () => {
    const { fetches, link, next, refer, client } = await live({ token: secret('the token of ada') });
    refer(11);
    link.publication('chat', 12);
    link.frame({ channel: 'chat', skipped: 2, offset: 14, tag: 't14' });
    link.publication('chat', 15);
    link.publication('other', 1);
    const { url, token, respond } = await fetches.next();
    const query = new URLSearchParams({ channel: 'chat', since: position(10) });
    expect(url).toBe(`https://example.com/realtime/payload?${query.toString()}`);
    expect(token).toBe(`Bearer ${secret('the token of ada')}`);
    expect(await next()).toEqual(['other', 1, 1]);
    respond(200, { much: true });
    expect(await next()).toEqual(['chat', 11, { much: true }]);
    expect(await next()).toEqual(['chat', 12, 12]);
    expect(await next()).toEqual(['skipped', { count: 2, position: position(14) }]);
    expect(await next()).toEqual(['chat', 15, 15]);
    client.close();
  });

  test('is fetched one after the other', async () => {
    const { fetches, link, next, refer, client } = await live();
    refer(11);
    refer(12);
    link.publication('chat', 13);
    const first = await fetches.next();
    expect(fetches.count).toBe(0);
    first.respond(200, 'one');
    (await fetches.next()).respond(200, 'two');
    expect([await next(), await next(), await next()]).toEqual([
      ['chat', 11, 'one'],
      ['chat', 12, 'two'],
      ['chat', 13, 13],
    ]);
    client.close();
  });

  test.each(PASSING)('is fetched again where %s', async (_, answerTo, leastMs) => {
    const { fetches, clock, next, refer, client } = await live();
    refer(11);
    const first = await fetches.next();
    answerTo(first);
    await until(clock, () => fetches.count > 0, leastMs);
    (await fetches.next()).respond(200, 'at last');
    expect(await next()).toEqual(['chat', 11, 'at last']);
    client.close();
  });

  test('is asked for with a newer token where the token has become old, once', async () => {
    let made = 0;
    const { fetches, clock, next, refer, client } = await live({ token: () => secret(`token number ${++made}`) });
    const refused = { error: { code: 'token_expired' } };
    refer(11);
    const first = await fetches.next();
    expect(first.token).toBe(`Bearer ${secret('token number 1')}`);
    first.respond(401, refused);
    await until(clock, () => fetches.count > 0);
    const second = await fetches.next();
    expect(second.token).toBe(`Bearer ${secret('token number 2')}`);
    second.respond(401, refused);
    expect(await next()).toEqual(['lost', { since: position(10), position: position(11), reason: 'trimmed' }]);
    expect(await next()).toEqual(['error', 'token_expired']);
    client.close();
  });

  test('that is gone is told as lost, and the channel goes on', async () => {
    const { fetches, link, next, refer, client } = await live();
    refer(11);
    link.publication('chat', 12);
    (await fetches.next()).respond(410, { error: { code: 'position_lost' } });
    expect(await next()).toEqual(['lost', { since: position(10), position: position(11), reason: 'trimmed' }]);
    expect(await next()).toEqual(['chat', 12, 12]);
    client.close();
  });

  test('comes over a change of link, and recovered after it', async () => {
    const { fetches, clock, transport, link, next, refer, client } = await live();
    refer(11);
    const asked = await fetches.next();
    link.end();
    await clock.pass(1_000);
    const channels = { chat: answer(11, { recovered: true, until: position(12) }), other: answer(0) };
    transport.link.open(channels).publication('chat', 12);
    asked.respond(200, 'late');
    const told: unknown[] = [];
    while (told.length < 4) told.push(await next());
    expect(told).toEqual([
      ['recovered', { position: position(0), count: 0 }],
      ['chat', 11, 'late'],
      ['chat', 12, 12],
      ['recovered', { position: position(12), count: 1 }],
    ]);
    client.close();
  });

  test('is given up where too much waits for it', async () => {
    const { fetches, link, next, refer, client } = await live();
    refer(11);
    const asked = await fetches.next();
    for (let offset = 12; offset <= 1_012; offset++) link.publication('chat', offset);
    expect(await next()).toEqual(['lost', { since: position(10), position: position(1_012), reason: 'unrecovered' }]);
    link.publication('chat', 1_013);
    expect(await next()).toEqual(['chat', 1_013, 1_013]);
    asked.respond(200, 'too late');
    link.publication('chat', 1_014);
    expect(await next()).toEqual(['chat', 1_014, 1_014]);
    client.close();
  });

  test('is not told to whom has left the channel', async () => {
    const { fetches, link, next, refer, client } = await live();
    refer(11);
    const asked = await fetches.next();
    void client.channel('chat').unsubscribe();
    asked.respond(200, 'too late');
    link.publication('other', 1);
    expect(await next()).toEqual(['other', 1, 1]);
    client.close();
  });
});

/** Lets time pass, at least so much, until something has happened that takes the event loop too. */
async function until(clock: Rig['clock'], happened: () => boolean, leastMs = 0): Promise<void> {
  await new Promise(setImmediate);
  await clock.pass(Math.max(0, leastMs - 1));
  expect(happened()).toBe(false);
  while (!happened()) {
    await clock.pass(1_000);
    await new Promise(setImmediate);
  }
}
