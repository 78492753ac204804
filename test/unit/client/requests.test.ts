import { describe, expect, test } from '@jest/globals';
import { makeRig, openRig, position } from './fake-transport.js';

const big = 'x'.repeat(70_000);

describe('a request', () => {
  test('resolves with the answer to its id', async () => {
    const { client, link, clock } = await openRig();
    const first = client.request('echo', 1);
    const second = client.request('echo', 2);
    await clock.settle();
    const [one, two] = link.sent.slice(1);
    clock.advance(12);
    link.frame({ id: two!.id, data: 'two' });
    link.frame({ id: one!.id, data: 'one' });
    await expect(Promise.all([first, second])).resolves.toEqual(['one', 'two']);
    expect(client.latencyMs).toBe(12);
    client.close();
  });

  test('rejects with the code, details and retryAfterMs of the hub', async () => {
    const { client, link, clock } = await openRig();
    const request = client.request('echo', 1);
    await clock.settle();
    link.refuse('echo', { code: 'rate_limited', details: [1], retryAfterMs: 50 });
    await expect(request).rejects.toMatchObject({ code: 'rate_limited', details: [1], retryAfterMs: 50 });
    client.close();
  });

  test('in flight rejects with outcome_unknown when the link is lost, and is not sent again', async () => {
    const rig = await openRig();
    const request = rig.client.request('echo', 1);
    await rig.clock.settle();
    rig.link.end();
    await expect(request).rejects.toMatchObject({ code: 'outcome_unknown' });
    await rig.clock.pass(1_000);
    rig.transport.link.open();
    expect(rig.transport.link.count('echo')).toBe(0);
    rig.client.close();
  });

  test('that was not sent waits for the link', async () => {
    const rig = makeRig();
    const request = rig.client.request('echo', 1);
    await rig.clock.settle();
    rig.transport.link.open();
    rig.transport.link.answer('echo', 1);
    await expect(request).resolves.toBe(1);
    rig.client.close();
  });

  test('rejects after its timeout: outcome_unknown if it was sent, not_available if not', async () => {
    const rig = await openRig();
    const sent = rig.client.request('echo', 1);
    sent.catch(() => {});
    await rig.clock.pass(15_000);
    await expect(sent).rejects.toMatchObject({ code: 'outcome_unknown' });
    expect(rig.link.last('$cancel').data).toEqual({ id: rig.link.last('echo').id });
    rig.link.end();
    const queued = rig.client.request('echo', 1, { timeoutMs: 300 });
    queued.catch(() => {});
    await rig.clock.pass(300);
    await expect(queued).rejects.toMatchObject({ code: 'not_available' });
    rig.client.close();
  });

  test('ends with its signal, which the hub is told', async () => {
    const { client, link, clock } = await openRig();
    const abort = new AbortController();
    const request = client.request('echo', 1, { signal: abort.signal });
    await clock.settle();
    abort.abort(new Error('enough'));
    await expect(request).rejects.toThrow('enough');
    expect(link.last('$cancel').data).toEqual({ id: link.last('echo').id });
    await expect(client.request('echo', 1, { signal: abort.signal })).rejects.toThrow('enough');
    expect(client.stats.pending).toBe(0);
    client.close();
  });

  test('that is answered by a stream resolves with the first value', async () => {
    const { client, link, clock } = await openRig();
    const request = client.request('ticks');
    await clock.settle();
    const { id } = link.last('ticks');
    link.frame({ id, data: 1, more: true });
    link.frame({ id, data: 2, more: true });
    await expect(request).resolves.toBe(1);
    expect(link.last('$cancel').data).toEqual({ id });
    client.close();
  });

  test('larger than the hub takes rejects here: there it would end the connection for good', async () => {
    const { client, link } = await openRig();
    await expect(client.request('echo', big)).rejects.toMatchObject({ code: 'frame_too_large' });
    await expect(client.request('echo', 'é'.repeat(33_000))).rejects.toMatchObject({ code: 'frame_too_large' });
    expect(link.count('echo')).toBe(0);
    client.close();
  });

  test('may be of any size where the hub has no limit', async () => {
    const rig = makeRig();
    void rig.client.connect();
    await rig.clock.settle();
    const { link } = rig.transport;
    link.connected({ maxFrameBytes: null });
    link.answer('$resume', { connection: 'c1', channels: {} });
    const request = rig.client.request('echo', big);
    await rig.clock.settle();
    link.answer('echo', 1);
    await expect(request).resolves.toBe(1);
    rig.client.close();
  });

  test('that is no JSON rejects', async () => {
    const { client } = await openRig();
    await expect(client.request('echo', 1n)).rejects.toThrow(/BigInt/);
    client.close();
  });
});

describe('a stream', () => {
  test('yields every value and ends', async () => {
    const { client, link, clock } = await openRig();
    const stream = client.requestStream<number>('ticks', 3);
    await clock.settle();
    const { id } = link.last('ticks');
    link.frame({ id, data: 1, more: true });
    await clock.pass(30_000);
    link.frame({ id, data: 2, more: true });
    link.frame({ id, done: true });
    const seen: number[] = [];
    for await (const value of stream) seen.push(value);
    expect(seen).toEqual([1, 2]);
    client.close();
  });

  test('of one value yields it', async () => {
    const { client, link, clock } = await openRig();
    const stream = client.requestStream('echo');
    await clock.settle();
    link.answer('echo', 'one');
    const seen: unknown[] = [];
    for await (const value of stream) seen.push(value);
    expect(seen).toEqual(['one']);
    client.close();
  });

  test('that is left tells the hub to stop', async () => {
    const { client, link, clock } = await openRig();
    const stream = client.requestStream('ticks');
    await clock.settle();
    const { id } = link.last('ticks');
    link.frame({ id, data: 1, more: true });
    for await (const _ of stream) break;
    expect(link.last('$cancel').data).toEqual({ id });
    expect(client.stats.pending).toBe(0);
    client.close();
  });

  test('ends with outcome_unknown when the link is lost, after what has come', async () => {
    const { client, link, clock } = await openRig();
    const stream = client.requestStream('ticks');
    await clock.settle();
    link.frame({ id: link.last('ticks').id, data: 1, more: true });
    link.end();
    await clock.settle();
    await expect(stream.next()).resolves.toEqual({ value: 1, done: false });
    await expect(stream.next()).rejects.toMatchObject({ code: 'outcome_unknown' });
    client.close();
  });
});

describe('a publish', () => {
  test('resolves with the position, null if nothing was published', async () => {
    const { client, link, clock } = await openRig();
    const chat = client.channel('chat');
    const first = chat.publish('message', { text: 'hi' }, { echo: false });
    await clock.settle();
    expect(link.last('$publish').data).toEqual({
      channel: 'chat',
      event: 'message',
      data: { text: 'hi' },
      echo: false,
      key: expect.stringMatching(/^.{10,128}$/),
    });
    link.answer('$publish', { position: position(5) });
    await expect(first).resolves.toBe(position(5));
    const second = chat.publish('message', 1, { key: 'mine' });
    await clock.settle();
    expect(link.last('$publish').data).toMatchObject({ key: 'mine' });
    link.answer('$publish', null);
    await expect(second).resolves.toBeNull();
    expect(chat.state).toBe('unsubscribed');
    client.close();
  });

  test('in flight or queued is sent again after a reconnect, in order, with the same key', async () => {
    const rig = await openRig();
    const chat = rig.client.channel('chat');
    const all = [chat.publish('message', 1), chat.publish('message', 2)];
    await rig.clock.settle();
    rig.link.answer('$publish', { position: position(2) });
    const [first] = rig.link.sent.filter(({ event }) => event === '$publish');
    rig.link.end();
    all.push(chat.publish('message', 3));
    await rig.clock.pass(1_000);
    const link = rig.transport.link.open();
    await rig.clock.settle();
    const again = link.sent.filter(({ event }) => event === '$publish');
    expect(again.map(({ data }) => data.data)).toEqual([1, 3]);
    expect(again[0]).toEqual(first);
    expect(new Set([...again, ...rig.link.sent].map(({ data }) => data.key)).size).toBe(4); // three keys, and $resume
    for (const { id } of again) link.frame({ id, data: { position: position(9) } });
    await expect(Promise.all(all)).resolves.toEqual([position(9), position(2), position(9)]);
    rig.client.close();
  });

  test('waits for a link without a time limit, and has one from when it is sent', async () => {
    const rig = makeRig();
    rig.transport.onOpen = (link) => link.end();
    const publish = rig.client.channel('chat').publish('message', 1);
    publish.catch(() => {});
    await rig.clock.pass(120_000);
    rig.transport.onOpen = (link) => link.open();
    await rig.clock.pass(25_000);
    expect(rig.transport.link.count('$publish')).toBe(1);
    await rig.clock.pass(15_000);
    await expect(publish).rejects.toMatchObject({ code: 'outcome_unknown' });
    rig.client.close();
  });

  test('rejects with rate_limited when the queue is full by count or bytes', async () => {
    const rig = makeRig({ queue: { maxCount: 3, maxBytes: 1_000 } });
    const chat = rig.client.channel('chat');
    const queued = [1, 2, 3].map((data) => chat.publish('message', data));
    await expect(chat.publish('message', 4)).rejects.toMatchObject({ code: 'rate_limited' });
    await expect(rig.client.request('echo')).rejects.toMatchObject({ code: 'rate_limited' });
    for (const publish of queued) publish.catch(() => {});
    rig.client.close();
    await expect(Promise.allSettled(queued)).resolves.toMatchObject(
      [1, 2, 3].map(() => ({ reason: { code: 'gone' } })),
    );

    const bytes = makeRig({ queue: { maxBytes: 1_000 } });
    const fits = bytes.client.channel('chat').publish('message', 'x'.repeat(700));
    fits.catch(() => {});
    await expect(bytes.client.channel('chat').publish('message', 'x'.repeat(700))).rejects.toMatchObject({
      code: 'rate_limited',
    });
    bytes.client.close();
  });

  test('that comes back from a lost link into a full queue has an unknown outcome', async () => {
    const rig = await openRig({ queue: { maxCount: 2 } });
    const chat = rig.client.channel('chat');
    const all = [1, 2, 3].map((data) => chat.publish('message', data));
    const settled = Promise.allSettled(all);
    await rig.clock.settle();
    rig.link.end();
    rig.client.close();
    await expect(settled).resolves.toMatchObject([1, 2, 3].map(() => ({ reason: { code: 'outcome_unknown' } })));
  });
});

test('history() reads the publications of a channel, with their positions', async () => {
  const { client, link, clock } = await openRig();
  const history = client.channel('chat').history({ limit: 2 });
  await clock.settle();
  expect(link.last('$history').data).toEqual({ channel: 'chat', limit: 2 });
  link.answer('$history', { position: position(5), publications: [{ event: 'a', data: 1, offset: 5, tag: 't5' }] });
  await expect(history).resolves.toEqual({
    position: position(5),
    publications: [{ channel: 'chat', event: 'a', data: 1, offset: 5, tag: 't5', position: position(5) }],
  });
  client.close();
});

test('send() needs an open link, and says so', async () => {
  const rig = makeRig();
  expect(rig.client.send('seen', 1)).toBe(false);
  void rig.client.connect();
  await rig.clock.settle();
  rig.transport.link.open();
  expect(rig.client.send('seen', 1)).toBe(true);
  expect(rig.transport.link.last('seen')).toEqual({ event: 'seen', data: 1 });
  rig.client.close();
});

test('events of the application and exceptions reach the client', async () => {
  const { client, link, errors } = await openRig();
  const events: unknown[] = [];
  client.on('event', (event, data) => events.push([event, data]));
  link.frame({ event: 'notice', data: { n: 1 } });
  link.frame({ event: '$future', data: 1 });
  link.frame({ event: 'exception', data: { status: 'error', code: 'invalid', message: 'no' } });
  expect(events).toEqual([['notice', { n: 1 }]]);
  expect(errors).toEqual([expect.objectContaining({ code: 'invalid', message: 'no' })]);
  client.close();
});
