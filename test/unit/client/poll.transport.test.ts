import { describe, expect, test } from '@jest/globals';
import type { ClientOptions } from '../../../lib/client/index.js';
import { established, makeHttpRig } from './fake-http.js';
import { answer, FakeTransport, position } from './fake-transport.js';

const publication = (channel: string, offset: number, data: unknown = offset) => ({
  channel,
  event: 'message',
  data,
  offset,
  tag: `t${offset}`,
});

/** A rig whose link is open, subscribed to a channel at offset 1. */
async function openRig(options: ClientOptions = {}) {
  const rig = makeHttpRig(options);
  const seen: unknown[] = [];
  const chat = rig.client.channel('chat');
  chat.on('message', (data) => seen.push(data));
  chat.on('lost', () => seen.push('lost'));
  await rig.settle();
  rig.http.the('/poll').answer(201, established({ chat: answer(1) }));
  await rig.settle();
  return { ...rig, chat, seen };
}

describe('long polling', () => {
  test('makes a connection with all channels of a turn, and asks for more by its pass', async () => {
    const { http, client, settle } = makeHttpRig({ token: 'secret-1' });
    const subscribed = Promise.all([client.channel('a').subscribe(), client.channel('b').subscribe()]);
    await settle();
    const first = http.the('/poll');
    expect(first.url.href).toBe('https://example.com/realtime/poll?tenant=7');
    expect(first.method).toBe('POST');
    expect(first.headers).toMatchObject({ authorization: 'Bearer secret-1', 'content-type': 'application/json' });
    expect(first.body).toEqual({ client: client.id, positions: { a: null, b: null } });
    first.answer(201, established({ a: answer(1), b: answer(2) }));
    await settle();
    await expect(subscribed).resolves.toMatchObject([{ position: position(1) }, { position: position(2) }]);
    expect(client.state).toBe('open');
    expect(client.transport).toBe('long-polling');
    expect(http.the('/poll').body).toEqual({ pass: 'pass-1', inbox: 0, positions: { a: position(1), b: position(2) } });
    client.close();
  });

  test('opens without a channel too', async () => {
    const { http, client, settle } = makeHttpRig();
    void client.connect();
    await settle();
    http.the('/poll').answer(201, established());
    await settle();
    expect(client.state).toBe('open');
    client.close();
  });

  test('tells with each poll what has come: positions, and the number of the inbox', async () => {
    const { http, client, settle, seen } = await openRig();
    const events: unknown[] = [];
    client.on('event', (event, data) => events.push([event, data]));
    http.the('/poll').answer(200, {
      frames: [publication('chat', 2), publication('chat', 3), { event: 'invited', data: 1 }],
      positions: { chat: position(3) },
      inbox: 4,
    });
    await settle(100);
    expect(seen).toEqual([2, 3]);
    expect(events).toEqual([['invited', 1]]);
    expect(http.the('/poll').body).toEqual({ pass: 'pass-1', inbox: 4, positions: { chat: position(3) } });
    client.close();
  });

  test('asks again at once after an empty answer that was held, and at most 10 times in 10 s after quick ones', async () => {
    const { clock, http, client, settle } = await openRig();
    http.onCall = (call) => call.answer(200, { frames: [], positions: {}, inbox: 0 });
    http.the('/poll').answer(200, { frames: [], positions: {}, inbox: 0 });
    await settle(0);
    for (let step = 0; step < 600; step++) await settle(100);
    const times = http.to('/poll').map(({ at }) => at);
    expect(times.length).toBeGreaterThan(25);
    for (const start of times) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    http.onCall = () => {};
    while (http.open('/poll').length === 0) await settle(100);
    await settle(25_000);
    const before = clock.now();
    http.the('/poll').answer(200, { frames: [], positions: {}, inbox: 0 });
    await settle(100);
    expect(http.the('/poll').at - before).toBeLessThanOrEqual(100);
    client.close();
  });

  test('cannot be made to loop by an answer that comes again and again', async () => {
    const { http, client, settle, seen, errors } = await openRig();
    const cached = { frames: [publication('chat', 2)], positions: { chat: position(2) }, inbox: 0 };
    http.onCall = (call) => call.answer(200, cached);
    http.the('/poll').answer(200, cached);
    for (let step = 0; step < 300; step++) await settle(100);
    const times = http.to('/poll').map(({ at }) => at);
    for (const start of times.slice(3)) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    expect(seen).toEqual([2]);
    expect(errors).toEqual([]);
    client.close();
  });

  test('takes a busy channel in lots: a poll each 100 ms', async () => {
    const { clock, http, client, settle, seen } = await openRig();
    let offset = 1;
    http.onCall = (call) => {
      offset++;
      call.answer(200, {
        frames: [publication('chat', offset)],
        positions: { chat: position(offset) },
        inbox: 0,
      });
    };
    const start = clock.now();
    http.onCall(http.the('/poll'));
    while (clock.now() - start < 5_000) await settle(10);
    expect(http.to('/poll').length).toBeLessThanOrEqual(53);
    expect(http.to('/poll').length).toBeGreaterThan(45);
    expect(seen).toHaveLength(offset - 1);
    client.close();
  });

  test('makes a poll again that failed on the way, as the same connection', async () => {
    const { http, client, settle, seen, states } = await openRig();
    const failures = [
      () => http.the('/poll').fail(),
      () => http.the('/poll').answer(502, '<html>'),
      () => http.the('/poll').answer(503, { error: { code: 'draining', message: 'later', retryAfterMs: 1_500 } }),
    ];
    for (const fail of failures) {
      fail();
      await settle();
      expect(http.open('/poll')).toHaveLength(0);
      await settle(4_000);
      expect(http.the('/poll').body).toEqual({ pass: 'pass-1', inbox: 0, positions: { chat: position(1) } });
    }
    http.the('/poll').answer(200, { frames: [publication('chat', 2)], positions: { chat: position(2) }, inbox: 0 });
    await settle();
    expect(seen).toEqual([2]);
    expect(states).toEqual(['connecting', 'open']);
    client.close();
  });

  test('is over after four failures, and comes back as a new connection with the positions', async () => {
    const { http, client, settle, seen, states } = await openRig();
    http.the('/poll').answer(200, { frames: [publication('chat', 2)], positions: { chat: position(2) }, inbox: 7 });
    await settle(100);
    for (let failure = 0; failure < 4; failure++) {
      http.the('/poll').fail();
      await settle(failure < 3 ? 4_000 : 0);
    }
    expect(states).toEqual(['connecting', 'open', 'waiting']);
    await settle(2_000);
    expect(http.the('/poll').body).toEqual({ client: client.id, positions: { chat: position(2) } });
    http.the('/poll').answer(201, established({ chat: answer(2, { recovered: true, until: position(3) }) }, 'pass-2'));
    await settle();
    expect(http.the('/poll').body).toEqual({ pass: 'pass-2', inbox: 0, positions: { chat: position(2) } });
    http.the('/poll').answer(200, { frames: [publication('chat', 3)], positions: { chat: position(3) }, inbox: 0 });
    await settle();
    expect(seen).toEqual([2, 3]);
    client.close();
  });

  test.each([
    [410, 'gone'],
    [401, 'token_expired'],
    [429, 'too_many_connections'],
  ])('comes back as a new connection where the hub says %d %s', async (status, code) => {
    let count = 0;
    const { http, client, settle } = await openRig({ token: () => `token-${++count}` });
    http
      .the('/poll')
      .answer(status, { error: { code, message: 'no', retryAfterMs: status === 429 ? 6_000 : undefined } });
    await settle(status === 429 ? 5_999 : 0);
    expect(client.state).toBe('waiting');
    await settle(2_000);
    const { body, headers } = http.the('/poll');
    expect(body).toEqual({ client: client.id, positions: { chat: position(1) } });
    expect(headers.authorization).toBe(status === 401 ? 'Bearer token-2' : 'Bearer token-1');
    client.close();
  });

  test.each([
    [403, 'forbidden'],
    [403, 'origin_refused'],
    [401, 'revoked'],
    [409, 'superseded'],
  ])('ends the client for good where the hub says %d %s', async (status, code) => {
    const { clock, http, client, settle, errors } = await openRig();
    http.the('/poll').answer(status, { error: { code, message: 'no' } });
    await settle();
    expect(client.state).toBe('closed');
    expect(errors).toEqual([expect.objectContaining({ code })]);
    await settle(60_000);
    expect(http.open('/poll')).toHaveLength(0);
    expect(clock.waiting).toBe(0);
  });

  test.each([
    [false, 'closed'],
    [true, 'waiting'],
  ])('obeys the $disconnect that ended its connection meanwhile: reconnect %s', async (reconnect, state) => {
    const { http, client, settle, errors } = await openRig();
    const disconnect = { code: 4500, reason: 'Go away', reconnect, delayMs: 7_000 };
    http.the('/poll').answer(410, { error: { code: 'gone', message: 'over', details: { disconnect } } });
    await settle();
    expect(client.state).toBe(state);
    await settle(6_999);
    expect(http.open('/poll')).toHaveLength(0);
    await settle(1);
    expect(http.open('/poll')).toHaveLength(reconnect ? 1 : 0);
    expect(errors).toHaveLength(reconnect ? 0 : 1);
    client.close();
  });

  test('ends by $disconnect like every transport', async () => {
    const { http, client, settle } = await openRig();
    const data = { code: 4410, reason: 'revoked', reconnect: false };
    http.the('/poll').answer(200, {
      frames: [publication('chat', 2), { event: '$disconnect', data }],
      positions: { chat: position(2) },
      inbox: 0,
    });
    await settle();
    expect(client.state).toBe('closed');
    expect(client.channel('chat').position).toBe(position(2));
  });

  test.each([
    [404, '<html>'],
    [405, '<html>'],
    [200, '<html>'],
    [413, { error: { code: 'frame_too_large', message: 'no' } }],
    [400, { error: { code: 'invalid', message: 'no' } }],
  ])('that does not open (%d) is left to the next transport', async (status, body) => {
    const next = new FakeTransport('next');
    const { http, client, settle } = makeHttpRig({ transports: ['long-polling', next] });
    void client.connect();
    await settle();
    http.the('/poll').answer(status, body);
    await settle(2_000);
    expect(next.links).toHaveLength(1);
    client.close();
  });

  test('asks again where a newer poll took over, with no more than the budget', async () => {
    const { http, client, settle } = await openRig();
    http.the('/poll').answer(200, { frames: [], positions: {}, inbox: 0, superseded: true });
    await settle(2_000);
    expect(http.open('/poll')).toHaveLength(1);
    client.close();
  });

  test('is not silent while polls are held, and is dropped when one is not answered', async () => {
    const { http, client, settle } = await openRig();
    for (let poll = 0; poll < 4; poll++) {
      await settle(25_000);
      http.the('/poll').answer(200, { frames: [], positions: {}, inbox: 0 });
      await settle(100);
    }
    expect(client.state).toBe('open');
    await settle(47_000);
    expect(client.state).toBe('open');
    await settle(1_100);
    expect(client.state).toBe('waiting');
    expect(http.open('/poll')).toHaveLength(0);
    client.close();
  });

  test('ends the connection when the client is closed, and not when the link is dropped', async () => {
    const { http, client, settle } = await openRig();
    client.reconnect();
    await settle(2_000);
    expect(http.to('/send')).toHaveLength(0);
    http.the('/poll').answer(201, established({ chat: answer(1, { recovered: true, until: position(1) }) }, 'pass-2'));
    await settle();
    client.close();
    expect(http.open('/poll')).toHaveLength(0);
    expect(http.the('/send')).toMatchObject({
      keepalive: true,
      body: { pass: 'pass-2', end: true },
    });
  });
});

describe('a channel over long polling', () => {
  test('is subscribed by a request of its own; what comes before the answer waits for it', async () => {
    const { http, client, settle, seen } = await openRig();
    const news = client.channel('news');
    const heard: unknown[] = [];
    news.on('message', (data) => heard.push(data));
    news.on('lost', () => heard.push('lost'));
    await settle();
    const send = http.the('/send');
    expect(send.body.frames).toEqual([{ id: 1, event: '$subscribe', data: { channel: 'news' } }]);
    http.the('/poll').answer(200, {
      frames: [publication('news', 6), publication('chat', 2)],
      positions: { news: position(6), chat: position(2) },
      inbox: 0,
    });
    await settle(100);
    expect(heard).toEqual([]);
    expect(seen).toEqual([2]);
    expect(http.the('/poll').body.positions).toEqual({ news: position(6), chat: position(2) });
    send.answer(200, { seq: 1, frames: [{ id: 1, data: answer(5) }] });
    await settle();
    expect(heard).toEqual([6]);
    expect(news.position).toBe(position(6));
    http.the('/poll').answer(200, { frames: [publication('news', 7)], positions: { news: position(7) }, inbox: 0 });
    await settle();
    expect(heard).toEqual([6, 7]);
    client.close();
  });

  test('that is left and entered again is not told what a poll from before brings', async () => {
    const { http, client, settle, chat, seen, errors } = await openRig();
    void chat.unsubscribe();
    void chat.subscribe();
    await settle();
    const { frames } = http.the('/send').body as { frames: { id: number; event: string }[] };
    expect(frames.map(({ event }) => event)).toEqual(['$unsubscribe', '$subscribe']);
    http.the('/send').answer(200, {
      seq: 1,
      frames: [
        { id: frames[0]!.id, data: null },
        { id: frames[1]!.id, data: answer(4) },
      ],
    });
    await settle();
    http.the('/poll').answer(200, {
      frames: [publication('chat', 2), publication('chat', 3), publication('chat', 4)],
      positions: { chat: position(4) },
      inbox: 0,
    });
    await settle(100);
    expect(seen).toEqual([]);
    expect(http.the('/poll').body.positions).toEqual({ chat: position(4) });
    http.the('/poll').answer(200, { frames: [publication('chat', 5)], positions: { chat: position(5) }, inbox: 0 });
    await settle();
    expect(seen).toEqual([5]);
    expect(errors).toEqual([]);
    client.close();
  });

  test('that the hub refuses or ends is told as over every transport', async () => {
    const { http, client, settle, chat, errors } = await openRig();
    const bad = client.channel('bad').subscribe();
    await settle();
    const error = { code: 'forbidden', message: 'no' };
    http.the('/send').answer(200, { seq: 1, frames: [{ id: 1, error }] });
    await expect(bad).rejects.toMatchObject({ code: 'forbidden' });
    const ended: unknown[] = [];
    chat.on('unsubscribed', (data) => ended.push(data));
    const data = { code: 'forbidden', reason: 'membership ended', resubscribe: false };
    http
      .the('/poll')
      .answer(200, { frames: [{ channel: 'chat', event: '$unsubscribed', data }], positions: {}, inbox: 1 });
    await settle(100);
    expect(ended).toEqual([data]);
    expect(http.the('/poll').body).toEqual({ pass: 'pass-1', inbox: 1, positions: {} });
    expect(errors).toHaveLength(1);
    client.close();
  });

  test('goes on over another transport where polling ended, and the other way round', async () => {
    const next = new FakeTransport('next');
    const { http, client, settle, seen } = await openRig({ transports: ['long-polling', next] });
    http.the('/poll').answer(200, { frames: [publication('chat', 2)], positions: { chat: position(2) }, inbox: 0 });
    await settle(100);
    next.onOpen = (link) => {
      link.open({ chat: answer(2, { recovered: true, until: position(3) }) });
      link.publication('chat', 3);
    };
    http.onCall = (call) => call.fail();
    http.the('/poll').fail();
    await settle(30_000);
    expect(client.transport).toBe('next');
    expect(seen).toEqual([2, 3]);
    http.onCall = (call) => {
      if (call.body.pass !== undefined) return;
      call.answer(
        201,
        established({ ...(call.body.positions.chat && { chat: answer(3, { recovered: true, until: position(3) }) }) }),
      );
    };
    next.onOpen = (link) => link.end();
    next.link.end();
    await settle(30_000);
    expect(client.transport).toBe('long-polling');
    http
      .open('/poll')
      .at(-1)!
      .answer(200, { frames: [publication('chat', 4)], positions: { chat: position(4) }, inbox: 0 });
    await settle();
    expect(seen).toEqual([2, 3, 4]);
    client.close();
  });
});
