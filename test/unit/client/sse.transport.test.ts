import { describe, expect, test } from '@jest/globals';
import '../../../lib/client/http.transports.js'; // loaded, so that no test waits for it
import { RealtimeClient, type ClientOptions } from '../../../lib/client/index.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { answer, FakeTransport, position } from './fake-transport.js';

interface Call {
  url: URL;
  method: string | undefined;
  headers: { accept: string; authorization?: string };
  body: any;
  keepalive: boolean;
  signal: AbortSignal | undefined;
  answered: boolean;
  /** Answers with a stream. */
  accept(): void;
  answer(status: number, body?: unknown, headers?: Record<string, string>): void;
  frame(frame: unknown, number?: number): void;
  write(text: string): void;
  end(): void;
}

/** Plays the hub's `POST /sse` and `POST /send`. */
class FakeHub {
  readonly calls: Call[] = [];

  readonly fetch = ((url: string, init: RequestInit) => {
    const encoder = new TextEncoder();
    let controller: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (made) => (controller = made) });
    let resolve: (response: Response) => void;
    let reject: (error: Error) => void;
    const promise = new Promise<Response>((...settle) => ([resolve, reject] = settle));
    init.signal?.addEventListener('abort', () => {
      reject(new Error('aborted'));
      controller.error(new Error('aborted'));
    });
    const write = (text: string) => controller.enqueue(encoder.encode(text));
    const call: Call = {
      url: new URL(url),
      method: init.method,
      headers: init.headers as Call['headers'],
      body: typeof init.body === 'string' ? JSON.parse(init.body) : undefined,
      keepalive: init.keepalive === true,
      signal: init.signal ?? undefined,
      answered: false,
      accept() {
        this.answered = true;
        resolve(new Response(body, { headers: { 'content-type': 'text/event-stream' } }));
      },
      answer(status, data, headers = {}) {
        this.answered = true;
        resolve(new Response(JSON.stringify(data ?? 'no'), { status, headers }));
      },
      write,
      frame: (frame, number) => {
        write(`${number === undefined ? '' : `id: ${number}\n`}data: ${JSON.stringify(frame)}\n\n`);
      },
      end: () => controller.close(),
    };
    this.calls.push(call);
    return promise;
  }) as typeof fetch;

  to(path: string): Call[] {
    return this.calls.filter(({ url }) => url.pathname.endsWith(path));
  }

  /** The newest stream. */
  get stream(): Call {
    return this.to('/sse').at(-1)!;
  }

  /** The newest request to send. */
  get sent(): Call {
    return this.to('/send').at(-1)!;
  }

  /** Accepts the newest stream: the first one, with the answers of its channels, or a later one. */
  open(channels?: Record<string, unknown>, pass = 'pass-1'): void {
    this.stream.accept();
    this.stream.write('retry: 1000\n');
    const data = { connection: 'c1', heartbeatMs: 25_000, timeoutMs: 8_000, maxFrameBytes: 65_536 };
    this.stream.frame({ event: '$connected', data: channels === undefined ? data : { ...data, pass, channels } });
  }

  /** Answers the newest request to send. */
  reply(...frames: unknown[]): void {
    this.sent.answer(200, { seq: this.sent.body.seq, frames });
  }
}

function makeRig(options: ClientOptions = {}) {
  const clock = new ManualClock(1_700_000_000_000);
  const hub = new FakeHub();
  const client = new RealtimeClient('https://example.com/realtime?tenant=7', {
    clock,
    random: () => 0.5,
    transports: ['sse'],
    fetch: hub.fetch,
    wakeUps: () => () => {},
    ...options,
  });
  const errors: Error[] = [];
  const states: string[] = [];
  client.on('error', (error) => errors.push(error));
  client.on('state', (state) => states.push(state));
  /** Runs what is due, streams included: they take a few turns. */
  const settle = async (ms = 0) => {
    for (let turn = 0; turn < 6; turn++) await clock.pass(turn === 0 ? ms : 0);
  };
  return { clock, hub, client, errors, states, settle };
}

/** A rig whose link is open, with a channel. */
async function openRig(options: ClientOptions = {}) {
  const rig = makeRig(options);
  const seen: unknown[] = [];
  rig.client.channel('a').on('message', (data) => seen.push(data));
  rig.client.channel('a').on('lost', () => seen.push('lost'));
  await rig.settle();
  rig.hub.open({ a: answer(1) });
  await rig.settle();
  return { ...rig, seen };
}

const publication = (channel: string, n: number) => ({
  channel,
  event: 'message',
  data: n,
  offset: n,
  tag: `t${n}`,
});

describe('the stream', () => {
  test('asks for a connection with all channels of a turn, and the token', async () => {
    const { hub, client, settle } = makeRig({ token: 'secret' });
    const connected: unknown[] = [];
    client.on('connected', (data) => connected.push(data));
    const subscribed = Promise.all([client.channel('a').subscribe(), client.channel('b').subscribe()]);
    await settle();
    expect(hub.calls).toHaveLength(1);
    expect([hub.stream.method, hub.stream.url.href]).toEqual(['POST', 'https://example.com/realtime/sse?tenant=7']);
    expect(hub.stream.body).toEqual({ client: client.id, positions: { a: null, b: null } });
    expect(hub.stream.headers).toEqual({
      'content-type': 'application/json',
      accept: 'text/event-stream, application/json',
      authorization: 'Bearer secret',
    });
    hub.open({ a: answer(1), b: answer(2) });
    await settle();
    await expect(subscribed).resolves.toMatchObject([{ position: position(1) }, { position: position(2) }]);
    expect([client.state, client.transport]).toEqual(['open', 'sse']);
    expect(connected).toEqual([{ connection: 'c1', heartbeatMs: 25_000, timeoutMs: 8_000, maxFrameBytes: 65_536 }]);
    client.close();
    expect(hub.stream.signal!.aborted).toBe(true);
  });

  test('opens without a channel too', async () => {
    const { hub, client, settle } = makeRig();
    const opening = client.connect();
    await settle();
    expect(hub.stream.body.positions).toEqual({});
    hub.open({});
    await expect(opening).resolves.toBeUndefined();
    client.close();
  });

  test('delivers publications, and tells what was lost', async () => {
    const { hub, client, settle, seen } = await openRig();
    hub.stream.frame(publication('a', 2));
    hub.stream.frame({ channel: 'a', event: '$lost', data: { position: position(5), reason: 'trimmed' } });
    hub.stream.frame(publication('a', 6));
    await settle();
    expect(seen).toEqual([2, 'lost', 6]);
    client.close();
  });

  test('is followed by the next one of its connection where it ends, at once, from the positions that the client has', async () => {
    const { hub, client, settle, seen, states } = await openRig();
    hub.stream.frame(publication('a', 2));
    await settle();
    hub.stream.end();
    await settle();
    expect(hub.stream.body).toEqual({ pass: 'pass-1', inbox: 0, positions: { a: position(2) } });
    hub.open();
    hub.stream.frame(publication('a', 3));
    await settle();
    expect([client.state, ...seen]).toEqual(['open', 2, 3]);
    expect(states).toEqual(['connecting', 'open']);
    client.close();
  });

  test('N17 is followed by the next one when the hub wants it back: the connection goes on', async () => {
    const { hub, client, settle, states } = await openRig();
    hub.stream.write('retry: 8000\n\n');
    hub.stream.end();
    await settle(7_900);
    expect(hub.to('/sse')).toHaveLength(1);
    await settle(100);
    expect(hub.stream.body).toMatchObject({ pass: 'pass-1' });
    hub.open();
    hub.stream.frame(publication('a', 2));
    await settle();
    hub.stream.end();
    await settle();
    expect(hub.to('/sse')).toHaveLength(3);
    expect(states).toEqual(['connecting', 'open']);
    client.close();
  });

  test('counts a comment as life', async () => {
    const { hub, client, settle } = await openRig();
    await settle(40_000);
    hub.stream.write(': beat\n\n');
    await settle(42_000);
    expect(client.state).toBe('open');
    await settle(2_000);
    expect(client.state).not.toBe('open');
    client.close();
  });

  test('D5.3 takes each frame of the inbox once, and says with the next stream which have come', async () => {
    const { hub, client, settle } = await openRig();
    const events: unknown[] = [];
    client.on('event', (event, data) => events.push([event, data]));
    hub.stream.frame({ event: 'hello', data: 1 }, 1);
    hub.stream.frame({ event: 'hello', data: 2 }, 2);
    await settle();
    hub.stream.end();
    await settle();
    expect(hub.stream.body).toMatchObject({ inbox: 2 });
    hub.open();
    hub.stream.frame({ event: 'hello', data: 2 }, 2);
    hub.stream.frame({ event: 'hello', data: 3 }, 3);
    await settle();
    expect(events).toEqual([1, 2, 3].map((n) => ['hello', n]));
    client.close();
  });

  test('D5.3 says after 32 frames of the inbox that they have come, or with what is sent', async () => {
    const { hub, client, settle } = await openRig();
    for (let n = 1; n <= 31; n++) hub.stream.frame({ event: 'e' }, n);
    await settle(1_000);
    expect(hub.to('/send')).toHaveLength(0);
    for (let n = 32; n <= 40; n++) hub.stream.frame({ event: 'e' }, n);
    await settle(100);
    expect(hub.to('/send').map(({ body }) => body)).toEqual([{ pass: 'pass-1', inbox: 40 }]);
    hub.stream.frame({ event: 'e' }, 41);
    await settle();
    client.send('x');
    client.send('y');
    await settle();
    expect(hub.sent.body).toEqual({
      pass: 'pass-1',
      inbox: 41,
      seq: 1,
      frames: [{ event: 'x' }, { event: 'y' }],
    });
    client.close();
  });

  test('brings a newer token with what follows', async () => {
    let count = 0;
    const { hub, client, settle } = await openRig({ token: () => `token-${++count}` });
    hub.stream.frame({ event: '$refresh' }, 1);
    await settle();
    expect(hub.sent.body.frames).toEqual([{ event: '$auth', data: { token: 'token-2' } }]);
    hub.stream.end();
    await settle();
    expect(hub.stream.headers.authorization).toBe('Bearer token-2');
    client.close();
  });

  test('is told by $disconnect that the connection is over', async () => {
    const { hub, client, settle, states } = await openRig();
    hub.stream.frame({ event: '$disconnect', data: { code: 4503, reason: 'draining', reconnect: true } });
    await settle();
    expect(states.at(-1)).toBe('waiting');
    await settle(2_000);
    expect(hub.stream.body).toMatchObject({ client: client.id, positions: { a: position(1) } });
    expect(hub.to('/send')).toHaveLength(0);
    client.close();
  });

  test('ends the connection when the client is closed, and not when the link is dropped', async () => {
    const { hub, client, settle } = await openRig();
    client.reconnect();
    await settle(2_000);
    expect(hub.to('/send')).toHaveLength(0);
    hub.open({ a: answer(1) }, 'pass-2');
    await settle();
    client.close();
    expect(hub.sent).toMatchObject({ keepalive: true, body: { pass: 'pass-2', end: true } });
  });
});

describe('what goes up over SSE', () => {
  test('is sent by requests with the pass, and answered by them', async () => {
    const { hub, client, settle } = await openRig();
    const calls = Promise.all([client.request('echo', 1), client.channel('a').publish('message', 'x')]);
    await settle();
    expect(hub.sent.body).toMatchObject({
      pass: 'pass-1',
      seq: 1,
      frames: [
        { event: 'echo', data: 1 },
        { event: '$publish', data: { channel: 'a', event: 'message', data: 'x' } },
      ],
    });
    const [first, second] = hub.sent.body.frames;
    hub.reply({ id: first.id, data: 'one' }, { id: second.id, data: { position: position(2) } });
    await expect(calls).resolves.toEqual(['one', position(2)]);
    expect(hub.to('/sse')).toHaveLength(1);
    expect(client.transport).toBe('sse');
    client.close();
  });

  test('enters and leaves channels while the stream goes on; what comes before the answer waits for it', async () => {
    const { hub, client, settle } = await openRig();
    const heard: unknown[] = [];
    const news = client.channel('news');
    news.on('message', (data) => heard.push(data));
    await settle();
    const [{ id }] = hub.sent.body.frames;
    hub.stream.frame(publication('news', 6));
    await settle();
    expect(heard).toEqual([]);
    hub.reply({ id, data: answer(5) });
    await settle();
    expect(heard).toEqual([6]);
    const leaving = news.unsubscribe();
    await settle();
    hub.reply({ id: hub.sent.body.frames[0].id, data: null });
    await leaving;
    hub.stream.end();
    await settle();
    expect(hub.stream.body.positions).toEqual({ a: position(1) });
    client.close();
  });

  test('is not_available with receiveOnly, but for channels, which are entered and left', async () => {
    const { hub, client, settle, errors } = await openRig({ receiveOnly: true });
    const chat = client.channel('a');
    for (const call of [client.request('echo'), chat.publish('m', 1), chat.history(), chat.presence()]) {
      await expect(call).rejects.toMatchObject({ code: 'not_available' });
    }
    expect(client.send('event')).toBe(true);
    await settle();
    expect(errors).toEqual([expect.objectContaining({ code: 'not_available' })]);
    expect(hub.to('/send')).toHaveLength(0);
    void client.channel('b').subscribe();
    await settle();
    expect(hub.sent.body.frames).toMatchObject([{ event: '$subscribe', data: { channel: 'b' } }]);
    client.close();
  });
});

describe('a stream that does not come', () => {
  test('within 4 s leaves it to the next transport', async () => {
    const next = new FakeTransport('next');
    const { hub, client, settle } = makeRig({ transports: ['sse', next] });
    void client.connect();
    await settle();
    hub.stream.accept(); // a proxy holds the rest back
    await settle(3_900);
    expect(hub.stream.signal!.aborted).toBe(false);
    await settle(2_000);
    expect([hub.stream.signal!.aborted, next.links.length]).toEqual([true, 1]);
    client.close();
  });

  test('later on, of a connection that is open, ends the link after 10 s', async () => {
    const next = new FakeTransport('next');
    const { hub, settle, client, states } = await openRig({ transports: ['sse', next] });
    hub.stream.end();
    await settle(1_000);
    hub.stream.accept();
    await settle(9_500);
    expect(client.state).toBe('open');
    await settle(500);
    expect(states.at(-1)).toBe('waiting');
    await settle(2_000);
    expect(hub.stream.body).toMatchObject({ client: client.id, positions: { a: position(1) } });
    client.close();
  });

  test('ends the client where the connection is refused for good, and comes back with a new token after 401', async () => {
    const refused = makeRig();
    void refused.client.connect().catch(() => {});
    await refused.settle();
    refused.hub.stream.answer(403, { error: { code: 'origin_refused', message: 'no' } });
    await refused.settle();
    expect(refused.client.state).toBe('closed');
    let count = 0;
    const { hub, client, settle } = makeRig({ token: () => `token-${++count}` });
    void client.connect().catch(() => {});
    await settle();
    hub.stream.answer(401);
    await settle(2_000);
    expect(hub.stream.headers.authorization).toBe('Bearer token-2');
    hub.stream.answer(401, { error: { code: 'unauthenticated', message: 'no' } });
    await settle(5_000);
    expect(client.state).toBe('closed');
    expect(hub.calls).toHaveLength(2);
  });

  test.each([404, 405, 426, 502])(
    'but something else than the hub (%d) leaves it to the next transport',
    async (status) => {
      const next = new FakeTransport('next');
      const { hub, client, settle } = makeRig({ transports: ['sse', next] });
      void client.channel('a').subscribe();
      await settle();
      hub.stream.answer(status, '<html>', { 'retry-after': 'Fri, 01 Jan 2027 00:00:00 GMT' });
      await settle(2_000);
      expect(next.links).toHaveLength(1);
      client.close();
    },
  );

  test('is asked for again where that passes; four times in a row end the link', async () => {
    const { hub, client, settle, states } = await openRig();
    hub.stream.frame(publication('a', 2));
    await settle();
    hub.stream.end();
    await settle(1_000);
    for (let i = 0; i < 4; i++) {
      for (let step = 0; hub.stream.answered && step < 100; step++) await settle(100);
      expect(hub.to('/sse')).toHaveLength(2 + i);
      hub.stream.answer(503, { error: { code: 'draining', message: 'later' } }, { 'retry-after': '1' });
      await settle();
    }
    expect(states).toEqual(['connecting', 'open', 'waiting']);
    client.close();
  });

  test('as the connection is over, ends the link by how it ended', async () => {
    const { hub, settle, client } = await openRig();
    hub.stream.end();
    await settle(1_000);
    const disconnect = { code: 4403, reason: 'enough', reconnect: false };
    hub.stream.answer(410, { error: { code: 'gone', message: 'over', details: { disconnect } } });
    await settle();
    expect(client.state).toBe('closed');
  });

  test('is asked for no more than 10 times in 10 s, whatever ends it', async () => {
    const { clock, hub, client, settle } = await openRig();
    hub.stream.end();
    const times: number[] = [];
    for (let step = 0; step < 600; step++) {
      await settle(100);
      if (hub.stream.answered) continue;
      times.push(clock.now());
      hub.open();
      hub.stream.frame(publication('a', times.length + 1));
      hub.stream.end();
    }
    expect(times.length).toBeGreaterThan(20);
    for (const start of times) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    client.close();
  });
});

test('receiveOnly tries SSE first', async () => {
  const clock = new ManualClock();
  const hub = new FakeHub();
  const client = new RealtimeClient('wss://example.com/realtime', { receiveOnly: true, fetch: hub.fetch, clock });
  client.channel('a').on('message', () => {});
  await clock.settle();
  expect(hub.stream.url.href).toBe('https://example.com/realtime/sse');
  client.close();
});
