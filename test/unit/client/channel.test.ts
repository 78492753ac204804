import { describe, expect, test } from '@jest/globals';
import type { Channel, ChannelSignals } from '../../../lib/client/index.js';
import { answer, makeRig, openRig, position, type FakeLink, type Rig } from './fake-transport.js';

/** Everything that a channel tells, in order. */
function record(channel: Channel): unknown[] {
  const told: unknown[] = [];
  const signals: (keyof ChannelSignals)[] = ['lost', 'recovered', 'skipped', 'unsubscribed', 'error'];
  for (const signal of signals) channel.on(signal, (data) => told.push([signal, data]));
  channel.on('*', (data) => told.push(data));
  return told;
}

/** A rig with one live channel at offset 10. */
async function liveRig(): Promise<Rig & { link: FakeLink; chat: Channel; told: unknown[] }> {
  const rig = await openRig();
  const chat = rig.client.channel('chat');
  const told = record(chat);
  await rig.clock.settle();
  rig.link.answer('$subscribe', answer(10));
  await rig.clock.settle();
  return { ...rig, chat, told };
}

async function comeBack(rig: Rig, subscribeAnswer: Record<string, unknown>): Promise<FakeLink> {
  rig.transport.link.end();
  await rig.clock.pass(1_000);
  return rig.transport.link.open({ chat: subscribeAnswer });
}

describe('a subscription', () => {
  test('starts with the first listener, once', async () => {
    const rig = await openRig();
    const chat = rig.client.channel('chat');
    expect(chat).toBe(rig.client.channel('chat'));
    chat.on('message', () => {});
    chat.on('*', () => {});
    const subscribed = chat.subscribe();
    expect(chat.state).toBe('subscribing');
    await rig.clock.settle();
    expect(rig.link.count('$subscribe')).toBe(1);
    expect(rig.link.last('$subscribe').data).toEqual({ channel: 'chat' });
    rig.link.answer('$subscribe', answer(3));
    await expect(subscribed).resolves.toMatchObject({ position: position(3) });
    expect(chat.state).toBe('subscribed');
    expect(chat.position).toBe(position(3));
    rig.client.close();
  });

  test('delivers publications by event, and to * and iterations', async () => {
    const { link, chat, client } = await liveRig();
    const seen: unknown[] = [];
    const stop = chat.on('message', (data, publication) => seen.push([data, publication.offset]));
    const iterated: unknown[] = [];
    const loop = (async () => {
      for await (const publication of chat) iterated.push(publication);
    })();
    link.publication('chat', 11, { text: 'hi' });
    link.publication('chat', 12, 1, 'other');
    stop();
    link.publication('chat', 13, 2);
    void chat.unsubscribe();
    await loop;
    expect(seen).toEqual([[{ text: 'hi' }, 11]]);
    expect(iterated).toHaveLength(3);
    expect(iterated[0]).toEqual({
      channel: 'chat',
      event: 'message',
      data: { text: 'hi' },
      offset: 11,
      tag: 't11',
      position: position(11),
    });
    client.close();
  });

  test('takes publications that follow its answer in the same turn', async () => {
    const rig = await openRig();
    const chat = rig.client.channel('chat');
    const told = record(chat);
    await rig.clock.settle();
    rig.link.answer('$subscribe', answer(10));
    rig.link.publication('chat', 11);
    rig.link.publication('chat', 12);
    expect(told).toEqual([11, 12]);
    rig.client.close();
  });

  test('that is asked for while $resume is on its way follows its answer', async () => {
    const rig = makeRig();
    void rig.client.connect();
    await rig.clock.settle();
    void rig.client.channel('late').subscribe();
    rig.client.on('state', (state) => state === 'open' && void rig.client.channel('later').subscribe());
    await rig.clock.settle();
    expect(rig.transport.link.sent).toHaveLength(1);
    rig.transport.link.open();
    await rig.clock.settle();
    expect(rig.transport.link.sent.slice(1).map(({ data }) => data)).toEqual([
      { channel: 'late' },
      { channel: 'later' },
    ]);
    rig.client.close();
  });

  test('that was left while $resume was on its way is ended', async () => {
    const rig = makeRig();
    const chat = rig.client.channel('chat');
    void chat.subscribe();
    await rig.clock.settle();
    await chat.unsubscribe();
    rig.transport.link.open({ chat: answer(1) });
    await rig.clock.settle();
    expect(rig.transport.link.last('$unsubscribe').data).toEqual({ channel: 'chat' });
    expect(chat.state).toBe('unsubscribed');
    rig.client.close();
  });

  test('ends with unsubscribe(): frames that still come are not delivered, the next one starts anew', async () => {
    const { link, chat, told, client, clock } = await liveRig();
    const left = chat.unsubscribe();
    await clock.settle();
    link.publication('chat', 11);
    link.answer('$unsubscribe', null);
    await left;
    expect(told).toEqual([]);
    expect(chat.position).toBeUndefined();
    void chat.subscribe();
    await clock.settle();
    expect(link.last('$subscribe').data).toEqual({ channel: 'chat' });
    client.close();
  });

  test('rejects when it is refused for good, and is told as error', async () => {
    const rig = await openRig();
    const chat = rig.client.channel('chat');
    const subscribed = chat.subscribe();
    await rig.clock.settle();
    rig.link.refuse('$subscribe', { code: 'forbidden', details: { why: 1 } });
    await expect(subscribed).rejects.toMatchObject({ code: 'forbidden', details: { why: 1 } });
    expect(rig.errors).toEqual([expect.objectContaining({ code: 'forbidden' })]);
    expect(chat.state).toBe('unsubscribed');
    await rig.clock.pass(60_000);
    expect(rig.link.count('$subscribe')).toBe(1);
    rig.client.close();
  });

  test('is tried again when the refusal passes, after retryAfterMs', async () => {
    const rig = await openRig();
    const subscribed = rig.client.channel('chat').subscribe();
    await rig.clock.settle();
    rig.link.refuse('$subscribe', { code: 'broker_unavailable', retryAfterMs: 3_000 });
    await rig.clock.pass(2_999);
    expect(rig.link.count('$subscribe')).toBe(1);
    await rig.clock.pass(1);
    expect(rig.link.count('$subscribe')).toBe(2);
    rig.link.answer('$subscribe', answer(1));
    await expect(subscribed).resolves.toMatchObject({ position: position(1) });
    rig.client.close();
  });

  test('whose answer is lost with the link is carried by the next $resume', async () => {
    const rig = await openRig();
    const subscribed = rig.client.channel('chat').subscribe();
    await rig.clock.settle();
    rig.link.end();
    await rig.clock.pass(1_000);
    rig.transport.link.open({ chat: answer(7) });
    await expect(subscribed).resolves.toMatchObject({ position: position(7) });
    expect(rig.errors).toEqual([]);
    rig.client.close();
  });

  test.each([true, false])('that the hub ends is told; resubscribe: %s decides what follows', async (resubscribe) => {
    const { link, chat, told, client, clock } = await liveRig();
    const loop = chat[Symbol.asyncIterator]();
    const data = { code: 'forbidden', reason: 'left the team', resubscribe };
    link.frame({ channel: 'chat', event: '$unsubscribed', data });
    expect(told).toEqual([['unsubscribed', data]]);
    await clock.pass(1_000);
    expect(link.count('$subscribe')).toBe(resubscribe ? 2 : 1);
    if (resubscribe) expect(link.last('$subscribe').data).toEqual({ channel: 'chat', since: position(10) });
    else await expect(loop.next()).rejects.toMatchObject({ code: 'forbidden' });
    client.close();
  });
});

describe('the position', () => {
  test('follows items and markers', async () => {
    const { link, chat, told, client } = await liveRig();
    link.publication('chat', 11);
    expect(chat.position).toBe(position(11));
    link.frame({ channel: 'chat', skipped: 4, offset: 15, tag: 't15' });
    expect(chat.position).toBe(position(15));
    link.publication('chat', 16);
    expect(told).toEqual([11, ['skipped', { count: 4, position: position(15) }], 16]);
    client.close();
  });

  test('does not move by an item that came before: it is reported, not delivered', async () => {
    const { link, chat, told, client } = await liveRig();
    link.publication('chat', 10);
    link.publication('chat', 3);
    expect(told).toEqual([
      ['error', expect.objectContaining({ code: 'internal' })],
      ['error', expect.objectContaining({ code: 'internal' })],
    ]);
    expect(chat.position).toBe(position(10));
    client.close();
  });

  test('makes a jump a loss, and subscribes anew from the old position', async () => {
    const { link, chat, told, client, clock } = await liveRig();
    link.publication('chat', 12);
    link.publication('chat', 13);
    expect(told).toEqual([['lost', { since: position(10), position: position(10), reason: 'gap' }]]);
    await clock.settle();
    expect(link.sent.slice(-2)).toMatchObject([
      { event: '$unsubscribe', data: { channel: 'chat' } },
      { event: '$subscribe', data: { channel: 'chat', since: position(10) } },
    ]);
    link.answer('$subscribe', answer(10, { recovered: true, until: position(13) }));
    await clock.settle();
    for (const offset of [11, 12, 13]) link.publication('chat', offset);
    expect(told.slice(1)).toEqual([11, 12, 13, ['recovered', { position: position(13), count: 3 }]]);
    expect(chat.position).toBe(position(13));
    client.close();
  });

  test('counts a marker that starts too late as a jump', async () => {
    const { link, told, client } = await liveRig();
    link.frame({ channel: 'chat', skipped: 2, offset: 14, tag: 't14' });
    expect(told).toEqual([['lost', expect.objectContaining({ reason: 'gap' })]]);
    client.close();
  });

  test('moves to where $lost says', async () => {
    const { link, chat, told, client } = await liveRig();
    const to = position(500, 'epochB');
    link.frame({ channel: 'chat', event: '$lost', data: { position: to, reason: 'epoch' } });
    link.publication('chat', 501);
    expect(told).toEqual([['lost', { since: position(10), position: to, reason: 'epoch' }], 501]);
    expect(chat.position).toBe(position(501, 'epochB'));
    client.close();
  });
});

describe('a recovery', () => {
  test('is told at once when nothing was missed', async () => {
    const rig = await liveRig();
    await comeBack(rig, answer(10, { recovered: true, until: position(10) }));
    expect(rig.told).toEqual([['recovered', { position: position(10), count: 0 }]]);
    rig.client.close();
  });

  test('is told when until is reached, after the publication that reaches it, and not again', async () => {
    const rig = await liveRig();
    const link = await comeBack(rig, answer(10, { recovered: true, until: position(13) }));
    link.publication('chat', 11);
    link.frame({ channel: 'chat', skipped: 1, offset: 12, tag: 't12' });
    link.publication('chat', 13);
    link.publication('chat', 14);
    expect(rig.told).toEqual([
      11,
      ['skipped', { count: 1, position: position(12) }],
      13,
      ['recovered', { position: position(13), count: 2 }],
      14,
    ]);
    rig.client.close();
  });

  test('that a marker carries beyond until is told too', async () => {
    const rig = await liveRig();
    const link = await comeBack(rig, answer(10, { recovered: true, until: position(12) }));
    link.frame({ channel: 'chat', skipped: 5, offset: 15, tag: 't15' });
    expect(rig.told.at(-1)).toEqual(['recovered', { position: position(15), count: 0 }]);
    rig.client.close();
  });

  test('that fails is told as lost, with both positions', async () => {
    const rig = await liveRig();
    const link = await comeBack(rig, answer(99, { recovered: false }));
    link.publication('chat', 100);
    expect(rig.told).toEqual([['lost', { since: position(10), position: position(99), reason: 'unrecovered' }], 100]);
    rig.client.close();
  });

  test('that is cut goes on from where it was', async () => {
    const rig = await liveRig();
    let link = await comeBack(rig, answer(10, { recovered: true, until: position(13) }));
    link.publication('chat', 11);
    link.end();
    await rig.clock.pass(3_000);
    link = rig.transport.link;
    expect(link.resume.data.channels).toEqual({ chat: position(11) });
    link.open({ chat: answer(11, { recovered: true, until: position(13) }) });
    link.publication('chat', 12);
    link.publication('chat', 13);
    expect(rig.told).toEqual([11, 12, 13, ['recovered', { position: position(13), count: 2 }]]);
    rig.client.close();
  });

  test('that is interrupted by $lost is not told', async () => {
    const rig = await liveRig();
    const link = await comeBack(rig, answer(10, { recovered: true, until: position(13) }));
    link.frame({ channel: 'chat', event: '$lost', data: { position: position(50), reason: 'trimmed' } });
    link.publication('chat', 51);
    expect(rig.told).toEqual([['lost', expect.objectContaining({ reason: 'trimmed' })], 51]);
    rig.client.close();
  });

  test('of a channel that is refused in $resume is told as error', async () => {
    const rig = await liveRig();
    await comeBack(rig, { error: { code: 'forbidden', message: 'no' } });
    expect(rig.told).toEqual([['error', expect.objectContaining({ code: 'forbidden' })]]);
    expect(rig.chat.state).toBe('unsubscribed');
    rig.client.close();
  });
});

describe('an iteration', () => {
  test('of a channel that is refused ends with the error', async () => {
    const rig = await openRig();
    const iteration = rig.client.channel('chat')[Symbol.asyncIterator]();
    const next = iteration.next();
    next.catch(() => {});
    await rig.clock.settle();
    rig.link.refuse('$subscribe', { code: 'forbidden' });
    await expect(next).rejects.toMatchObject({ code: 'forbidden' });
    await expect(iteration.next()).resolves.toEqual({ done: true, value: undefined });
    rig.client.close();
  });

  test('ends with the error that closes the client, and without one by close()', async () => {
    for (const closes of [true, false]) {
      const { client, chat, link } = await liveRig();
      const next = chat[Symbol.asyncIterator]().next();
      next.catch(() => {});
      if (closes) client.close();
      else link.end(4403, 'forbidden');
      if (closes) await expect(next).resolves.toEqual({ done: true, value: undefined });
      else await expect(next).rejects.toMatchObject({ code: 'forbidden' });
    }
  });

  test('of a client that is closed ends with the error', async () => {
    const { client, chat } = await liveRig();
    client.close();
    await expect(chat[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'gone' });
    await expect(client.channel('other')[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'gone' });
  });
});

describe('listeners', () => {
  test('of a client that is closed are told so, as error', async () => {
    const { client, errors } = await openRig();
    client.close();
    const told: unknown[] = [];
    client.channel('a').on('message', () => {});
    expect(errors).toEqual([expect.objectContaining({ code: 'gone' })]);
    client.channel('b').on('error', (error) => told.push(error));
    await expect(client.channel('b').subscribe()).rejects.toMatchObject({ code: 'gone' });
    expect(told).toEqual([expect.objectContaining({ code: 'gone' }), expect.objectContaining({ code: 'gone' })]);
    expect(errors).toHaveLength(1);
  });

  test('that throw or reject are reported and harm nothing', async () => {
    const { link, chat, client, errors, clock } = await liveRig();
    const seen: unknown[] = [];
    chat.on('message', () => {
      throw new Error('thrown');
    });
    chat.on('message', () => Promise.reject(new Error('rejected')));
    chat.on('message', (data) => seen.push(data));
    link.publication('chat', 11);
    await clock.settle();
    expect(seen).toEqual([11]);
    expect(errors.map(({ message }) => message)).toEqual(['thrown', 'rejected']);
    expect(client.state).toBe('open');
    client.close();
  });

  test('of signals are not called for publications of the same name', async () => {
    const { link, told, client } = await liveRig();
    link.publication('chat', 11, 'data', 'lost');
    expect(told).toEqual(['data']);
    client.close();
  });
});

test('an iteration that falls 1,000 publications behind ends with slow_consumer', async () => {
  const { link, chat, client } = await liveRig();
  const iteration = chat[Symbol.asyncIterator]();
  for (let offset = 11; offset <= 1_011; offset++) link.publication('chat', offset);
  for (let offset = 11; offset <= 1_010; offset++) {
    expect((await iteration.next()).value).toMatchObject({ offset });
  }
  await expect(iteration.next()).rejects.toMatchObject({ code: 'slow_consumer' });
  await expect(iteration.next()).resolves.toMatchObject({ done: true });
  client.close();
});
