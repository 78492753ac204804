import { describe, expect, test } from '@jest/globals';
import '../../../lib/client/http.transports.js'; // loaded, so that no test waits for it
import { RealtimeClient, type ClientOptions } from '../../../lib/client/index.js';
import { ManualClock } from '../../support/manual-clock.js';
import { established } from './fake-http.js';
import { answer, FakeTransport, position } from './fake-transport.js';

interface Call {
  url: URL;
  headers: { accept: string; authorization?: string; 'last-event-id'?: string };
  body: any;
  signal: AbortSignal;
  /** Answers with a stream. */
  accept(): void;
  refuse(status: number, body?: unknown, headers?: Record<string, string>): void;
  frame(frame: unknown): void;
  write(text: string): void;
  end(): void;
}

/** Plays the hub's `GET /sse`. */
class FakeHub {
  readonly calls: Call[] = [];

  readonly fetch = ((url: string, init: RequestInit) => {
    const encoder = new TextEncoder();
    let controller: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (made) => (controller = made) });
    let resolve: (response: Response) => void;
    let reject: (error: Error) => void;
    const promise = new Promise<Response>((...settle) => ([resolve, reject] = settle));
    init.signal!.addEventListener('abort', () => {
      reject(new Error('aborted'));
      controller.error(new Error('aborted'));
    });
    const write = (text: string) => controller.enqueue(encoder.encode(text));
    this.calls.push({
      url: new URL(url),
      headers: init.headers as Call['headers'],
      body: typeof init.body === 'string' ? JSON.parse(init.body) : undefined,
      signal: init.signal!,
      accept: () => resolve(new Response(body, { headers: { 'content-type': 'text/event-stream' } })),
      refuse: (status, data, headers = {}) => resolve(new Response(JSON.stringify(data ?? 'no'), { status, headers })),
      write,
      frame: (frame) => write(`data: ${JSON.stringify(frame)}\n\n`),
      end: () => controller.close(),
    });
    return promise;
  }) as typeof fetch;

  get call(): Call {
    return this.calls.at(-1)!;
  }

  /** Accepts the last request, with the answers of its channels. */
  open(channels: Record<string, unknown>): void {
    this.call.accept();
    this.call.write('retry: 1000\n\n');
    const data = { connection: 'c1', heartbeatMs: 25_000, timeoutMs: 8_000, maxFrameBytes: 65_536, cursor: 'none' };
    this.call.frame({ event: '$connected', data: { ...data, channels } });
  }
}

function makeRig(options: ClientOptions = {}) {
  const clock = new ManualClock();
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
    for (let turn = 0; turn < 5; turn++) await clock.pass(turn === 0 ? ms : 0);
  };
  return { clock, hub, client, errors, states, settle };
}

describe('the stream', () => {
  test('asks for all channels of a turn, with the token', async () => {
    const { hub, client, settle } = makeRig({ token: 'secret' });
    const subscribed = Promise.all([client.channel('a').subscribe(), client.channel('b,c').subscribe()]);
    await settle();
    expect(hub.calls).toHaveLength(1);
    expect(hub.call.url.href).toBe(
      `https://example.com/realtime/sse?tenant=7&channels=a%2Cb%2Cc&format=frames&client=${client.id}`,
    );
    expect(hub.call.headers).toEqual({
      accept: 'text/event-stream, application/json',
      authorization: 'Bearer secret',
    });
    hub.open({ a: answer(1), 'b,c': answer(2) });
    await settle();
    await expect(subscribed).resolves.toMatchObject([{ position: position(1) }, { position: position(2) }]);
    expect(client.state).toBe('open');
    expect(client.transport).toBe('sse');
    client.close();
    expect(hub.call.signal.aborted).toBe(true);
  });

  test('delivers publications', async () => {
    const { hub, client, settle } = makeRig();
    const seen: unknown[] = [];
    client.channel('a').on('message', (data) => seen.push(data));
    await settle();
    hub.open({ a: answer(1) });
    hub.call.frame({ channel: 'a', event: 'message', data: 'x', offset: 2, tag: 't2' });
    await settle();
    expect(seen).toEqual(['x']);
    client.close();
  });

  test('comes back with the positions as Last-Event-ID, by the place of each channel in the request', async () => {
    const { hub, client, settle } = makeRig();
    const told: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      client.channel(name).on('recovered', () => told.push(`${name} recovered`));
      client.channel(name).on('lost', () => told.push(`${name} lost`));
    }
    await settle();
    hub.call.refuse(503, { error: { code: 'draining', message: 'later' } }, { 'retry-after': '3' });
    await settle(2_999);
    expect(hub.calls).toHaveLength(1);
    await settle(1);
    hub.open({ a: answer(1), b: answer(2), c: answer(3) });
    await settle();
    hub.call.frame({ channel: 'b', event: 'message', data: 'x', offset: 3, tag: 't3' });
    await settle();
    hub.call.end();
    await settle();
    expect(client.state).toBe('waiting');
    await settle(2_000);
    expect(hub.call.headers['last-event-id']).toBe(`1~0:${position(1)}!1:${position(3)}!2:${position(3)}`);
    hub.open({
      a: answer(1, { recovered: true, until: position(1) }),
      b: answer(9, { recovered: false }),
      c: answer(3, { recovered: true, until: position(4) }),
    });
    hub.call.frame({ channel: 'c', event: 'message', data: 'x', offset: 4, tag: 't4' });
    await settle();
    expect(told).toEqual(['a recovered', 'b lost', 'c recovered']);
    client.close();
  });

  test('is opened anew, once, when channels are added or left, without a loss of state', async () => {
    const { hub, client, settle, states } = makeRig();
    const told: unknown[] = [];
    client.channel('a').on('lost', (lost) => told.push(lost));
    await settle();
    hub.open({ a: answer(1) });
    await settle();
    const [first] = hub.calls;
    hub.call.frame({ channel: 'a', event: 'message', data: 'x', offset: 2, tag: 't2' });
    await settle();
    const added = client.channel('b').subscribe();
    void client.channel('c').subscribe();
    await settle();
    expect(hub.calls).toHaveLength(2);
    expect(first!.signal.aborted).toBe(true);
    expect(hub.call.url.searchParams.get('channels')).toBe('a,b,c');
    expect(hub.call.headers['last-event-id']).toBe(`1~0:${position(2)}`);
    hub.open({ a: answer(2, { recovered: true, until: position(2) }), b: answer(5), c: answer(6) });
    await settle();
    await expect(added).resolves.toMatchObject({ position: position(5) });
    expect(told).toEqual([]);
    void client.channel('b').unsubscribe();
    await settle();
    expect(hub.call.url.searchParams.get('channels')).toBe('a,c');
    hub.open({ a: answer(7, { recovered: false }), c: answer(6, { recovered: true }) });
    await settle();
    expect(told).toEqual([{ since: position(2), position: position(7), reason: 'unrecovered' }]);
    expect(states).toEqual(['connecting', 'open']);
    client.close();
  });

  test('counts a comment as life', async () => {
    const { hub, client, settle } = makeRig();
    void client.channel('a').subscribe();
    await settle();
    hub.open({ a: answer(1) });
    await settle(40_000);
    hub.call.write(': beat\n\n');
    await settle(42_000);
    expect(client.state).toBe('open');
    await settle(2_000);
    expect(client.state).not.toBe('open');
    client.close();
  });

  test('is not asked for, and not open, without channels', async () => {
    const { hub, clock, client, settle, states } = makeRig();
    let opened = false;
    void client.connect().then(() => (opened = true));
    await settle();
    expect(client.state).toBe('connecting');
    expect(hub.calls).toHaveLength(0);
    await settle(120_000);
    expect(clock.waiting).toBe(0);
    void client.channel('a').subscribe();
    void client.channel('b').subscribe();
    await settle();
    expect(hub.calls).toHaveLength(1);
    expect(hub.call.url.searchParams.get('channels')).toBe('a,b');
    expect(opened).toBe(false);
    hub.open({ a: answer(1), b: answer(1) });
    await settle();
    expect(opened).toBe(true);
    expect(states).toEqual(['connecting', 'open']);
    client.close();
  });

  test('is tried again with the first channel when nobody listens there', async () => {
    const { hub, client, settle } = makeRig();
    void client.connect();
    await settle();
    void client.channel('a').subscribe();
    await settle();
    hub.call.refuse(502);
    await settle();
    expect(client.state).toBe('waiting');
    client.close();
  });

  test('ends with its last channel, and begins with the next one', async () => {
    const { hub, client, settle } = makeRig();
    const chat = client.channel('a');
    void chat.subscribe();
    await settle();
    hub.open({ a: answer(1) });
    await settle();
    await chat.unsubscribe();
    await settle();
    expect(hub.call.signal.aborted).toBe(true);
    expect(client.state).toBe('waiting');
    await settle(5_000);
    expect(client.state).toBe('connecting');
    void client.channel('b').subscribe();
    await settle();
    expect(hub.call.url.searchParams.get('channels')).toBe('b');
    client.close();
  });

  test('leaves a client without channels to the next transport', async () => {
    const next = new FakeTransport('next');
    const { hub, client, settle } = makeRig({ transports: ['sse', next] });
    void client.connect();
    await settle(1_500);
    expect(hub.calls).toHaveLength(0);
    next.link.open();
    expect(client.transport).toBe('next');
    await settle(40_000);
    expect(hub.calls).toHaveLength(0);
    void client.channel('a').subscribe();
    await settle();
    next.link.answer('$subscribe', answer(1));
    await settle(35_000);
    next.link.context.onAlive();
    await settle(40_000);
    expect(hub.calls).toHaveLength(1);
    expect(next.link.closed).toBeUndefined();
    hub.open({ a: answer(1) });
    await settle();
    expect(next.link.closed).toBe(false);
    expect(hub.calls).toHaveLength(2);
    hub.open({ a: answer(1) });
    await settle();
    expect(client.transport).toBe('sse');
    client.close();
  });

  test('takes a newer token', async () => {
    let count = 0;
    const { hub, client, settle } = makeRig({ token: () => `token-${++count}` });
    void client.channel('a').subscribe();
    await settle();
    hub.open({ a: answer(1) });
    hub.call.frame({ event: '$refresh' });
    await settle();
    expect(hub.call.headers.authorization).toBe('Bearer token-2');
    client.close();
  });

  test('keeps the cursor within its limit: a channel left out of it is told as lost', async () => {
    const { hub, client, settle } = makeRig();
    const names = Array.from({ length: 200 }, (_, index) => `channel-${index}`);
    const lost: string[] = [];
    for (const name of names) client.channel(name).on('lost', () => lost.push(name));
    await settle();
    const answers = (more = {}) => Object.fromEntries(names.map((name) => [name, answer(1_000_000, more)]));
    hub.open(answers());
    await settle();
    hub.call.end();
    await settle(2_000);
    const cursor = hub.call.headers['last-event-id']!;
    expect(cursor.length).toBeLessThanOrEqual(4_096);
    const kept = cursor.split('!').length;
    hub.open({
      ...answers({ recovered: true }),
      ...Object.fromEntries(names.slice(kept).map((name) => [name, answer(1_000_005)])),
    });
    await settle();
    expect(lost).toEqual(names.slice(kept));
    client.close();
  });
});

describe('a refused stream', () => {
  test('refuses the channel that the error names, and opens with the others', async () => {
    const { hub, client, settle } = makeRig();
    const good = client.channel('good').subscribe();
    const bad = client.channel('bad').subscribe();
    await settle();
    hub.call.refuse(403, { error: { code: 'forbidden', message: 'no', details: { channel: 'bad' } } });
    await settle();
    expect(hub.call.url.searchParams.get('channels')).toBe('good');
    hub.open({ good: answer(1) });
    await settle();
    await expect(good).resolves.toMatchObject({ position: position(1) });
    await expect(bad).rejects.toMatchObject({ code: 'forbidden' });
    client.close();
  });

  test('is asked for anew no more than 10 times in 10 s, however many channels are refused one by one', async () => {
    const { clock, hub, client, settle } = makeRig();
    const names = Array.from({ length: 40 }, (_, index) => `bad-${index}`);
    for (const name of names) client.channel(name).on('error', () => {});
    const times: number[] = [];
    for (let step = 0; step < 1_000 && times.length < names.length; step++) {
      await settle(step === 0 ? 0 : 100);
      if (hub.calls.length === times.length) continue;
      times.push(clock.now());
      const channel = names[times.length - 1];
      hub.call.refuse(403, { error: { code: 'forbidden', message: 'no', details: { channel } } });
    }
    expect(times).toHaveLength(names.length);
    for (const start of times) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    client.close();
  });

  test('refuses each of its channels, and is over when none is left', async () => {
    const { hub, client, settle, errors } = makeRig();
    const bad = client.channel('bad').subscribe();
    await settle();
    hub.call.refuse(403, { error: { code: 'forbidden', message: 'no', details: { channel: 'bad' } } });
    await settle();
    await expect(bad).rejects.toMatchObject({ code: 'forbidden' });
    expect(errors).toEqual([expect.objectContaining({ code: 'forbidden' })]);
    await settle(5_000);
    expect(client.state).toBe('connecting');
    expect(hub.calls).toHaveLength(1);
    client.close();
  });

  test('refuses the channels that are new where it names none', async () => {
    const { hub, client, settle } = makeRig();
    void client.channel('a').subscribe();
    await settle();
    hub.open({ a: answer(1) });
    await settle();
    const bad = client.channel('bad').subscribe();
    await settle();
    hub.call.refuse(404, { error: { code: 'unknown_channel', message: 'no' } });
    await settle();
    await expect(bad).rejects.toMatchObject({ code: 'unknown_channel' });
    expect(hub.call.url.searchParams.get('channels')).toBe('a');
    expect(client.channel('a').state).toBe('subscribed');
    client.close();
  });

  test('ends the client when the connection is refused for good', async () => {
    const { hub, client, settle } = makeRig();
    void client.channel('a').subscribe();
    await settle();
    hub.call.refuse(403, { error: { code: 'origin_refused', message: 'no' } });
    await settle();
    expect(client.state).toBe('closed');
  });

  test('fetches a new token after 401', async () => {
    let count = 0;
    const { hub, client, settle } = makeRig({ token: () => `token-${++count}` });
    void client.channel('a').subscribe();
    await settle();
    hub.call.refuse(401);
    await settle(2_000);
    expect(hub.call.headers.authorization).toBe('Bearer token-2');
    hub.call.refuse(401, { error: { code: 'unauthenticated', message: 'no' } });
    await settle(5_000);
    expect(client.state).toBe('closed');
    expect(hub.calls).toHaveLength(2);
  });

  test.each([404, 405, 426, 502])(
    'by something else than the hub (%d) leaves it to the next transport',
    async (status) => {
      const next = new FakeTransport('next');
      const { hub, client, settle } = makeRig({ transports: ['sse', next] });
      void client.channel('a').subscribe();
      await settle();
      hub.call.refuse(status, '<html>', { 'retry-after': 'Fri, 01 Jan 2027 00:00:00 GMT' });
      await settle(2_000);
      expect(next.links).toHaveLength(1);
      client.close();
    },
  );
});

test('over SSE a client that only receives rejects with not_available what it cannot send', async () => {
  const { hub, client, settle, errors } = makeRig({ receiveOnly: true });
  const chat = client.channel('a');
  const calls = [client.request('echo'), chat.publish('message', 1), chat.history(), chat.presence()];
  const settled = Promise.allSettled(calls);
  void chat.subscribe();
  await settle();
  hub.open({ a: answer(1) });
  await settle();
  await expect(settled).resolves.toMatchObject(calls.map(() => ({ reason: { code: 'not_available' } })));
  expect(client.send('seen')).toBe(true);
  await settle();
  expect(errors).toEqual([expect.objectContaining({ code: 'not_available' })]);
  client.close();
});

describe('a request over SSE', () => {
  /** A link with a channel, on which a request was made. */
  async function openRig() {
    const rig = makeRig();
    const seen: unknown[] = [];
    const chat = rig.client.channel('a');
    chat.on('message', (data) => seen.push(data));
    chat.on('lost', () => seen.push('lost'));
    await rig.settle();
    rig.hub.open({ a: answer(1) });
    await rig.settle();
    const stream = rig.hub.call;
    const request = rig.client.request('echo', 7);
    const settled = Promise.allSettled([request]);
    await rig.settle();
    return { ...rig, chat, seen, stream, request, settled, poll: rig.hub.call };
  }

  test('has the link go on over long polling, from where it is: the stream goes on until then', async () => {
    const { hub, client, settle, seen, stream, request, states, poll } = await openRig();
    expect(poll.url.pathname).toBe('/realtime/poll');
    expect(poll.body).toEqual({ client: client.id, positions: { a: position(1) } });
    const added = client.channel('b').subscribe();
    stream.frame({ channel: 'a', event: 'message', data: 'x', offset: 2, tag: 't2' });
    await settle();
    expect(seen).toEqual(['x']);
    expect(client.transport).toBe('sse');
    poll.refuse(201, established({ a: answer(1, { recovered: true, until: position(2) }) }));
    await settle();
    expect(stream.signal.aborted).toBe(true);
    expect(client.transport).toBe('long-polling');
    const send = hub.calls.find(({ url }) => url.pathname.endsWith('/send'))!;
    expect(send.body.frames).toEqual([
      { id: 1, event: 'echo', data: 7 },
      { id: 2, event: '$subscribe', data: { channel: 'b' } },
    ]);
    send.refuse(200, {
      seq: 1,
      frames: [
        { id: 1, data: 7 },
        { id: 2, data: answer(5) },
      ],
    });
    await expect(request).resolves.toBe(7);
    await expect(added).resolves.toMatchObject({ position: position(5) });
    const next = hub.calls.find(({ body }) => body?.inbox === 0)!;
    expect(next.body.positions).toEqual({ a: position(2) });
    const frames = [2, 3].map((offset) => ({
      channel: 'a',
      event: 'message',
      data: offset,
      offset,
      tag: `t${offset}`,
    }));
    next.refuse(200, { frames, positions: { a: position(3) }, inbox: 0 });
    await settle();
    expect(seen).toEqual(['x', 3]);
    expect(states).toEqual(['connecting', 'open']);
    client.close();
  });

  test('tells what is lost on the way, and channels that are refused there', async () => {
    const { client, settle, seen, chat, poll, settled } = await openRig();
    const ended: unknown[] = [];
    client.channel('b').on('unsubscribed', ({ code }) => ended.push(code));
    const asked = client.channel('b').subscribe();
    asked.catch(() => {});
    await settle();
    const error = { code: 'forbidden', message: 'no' };
    poll.refuse(201, established({ a: answer(9, { recovered: false }) }));
    await settle();
    expect(seen).toEqual(['lost']);
    expect(chat.position).toBe(position(9));
    client.close();
    await settled;
    const again = await openRig();
    again.poll.refuse(201, established({ a: { error } }));
    await again.settle();
    expect(again.chat.state).toBe('unsubscribed');
    again.client.close();
    await again.settled;
  });

  test('is not_available where the hub has no long polling: the stream goes on', async () => {
    const { hub, client, settle, seen, stream, request, poll } = await openRig();
    poll.refuse(404, '<html>');
    await expect(request).rejects.toMatchObject({ code: 'not_available' });
    await expect(client.request('echo', 8)).rejects.toMatchObject({ code: 'not_available' });
    stream.frame({ channel: 'a', event: 'message', data: 'x', offset: 2, tag: 't2' });
    await settle();
    expect(seen).toEqual(['x']);
    expect(client.transport).toBe('sse');
    expect(hub.calls.filter(({ url }) => url.pathname.endsWith('/poll'))).toHaveLength(1);
    client.close();
  });

  test.each([
    [403, { error: { code: 'forbidden', message: 'no' } }, 'closed'],
    [503, { error: { code: 'draining', message: 'later' } }, 'waiting'],
    [502, '<html>', 'waiting'],
  ])('ends the link where the hub refuses it with %d', async (status, body, state) => {
    const { client, settle, stream, settled, poll } = await openRig();
    poll.refuse(status, body);
    await settle();
    expect(client.state).toBe(state);
    expect(stream.signal.aborted).toBe(true);
    await expect(settled).resolves.toMatchObject([{ reason: { code: 'outcome_unknown' } }]);
    client.close();
  });

  test('ends with the link', async () => {
    const { client, clock, poll, settled } = await openRig();
    client.close();
    expect(poll.signal.aborted).toBe(true);
    expect(clock.waiting).toBe(0);
    await settled;
  });
});

test('receiveOnly tries SSE first', async () => {
  const hub = new FakeHub();
  const clock = new ManualClock();
  const client = new RealtimeClient('wss://example.com/realtime', { receiveOnly: true, fetch: hub.fetch, clock });
  void client.channel('a').subscribe();
  await clock.pass(0);
  expect(hub.call.url.origin).toBe('https://example.com');
  client.close();
});
