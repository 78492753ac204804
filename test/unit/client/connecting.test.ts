import { describe, expect, jest, test } from '@jest/globals';
import { RealtimeClient } from '../../../lib/client/index.js';
import { answer, FakeTransport, makeRig, openRig, position } from './fake-transport.js';

const after = async (rig: { clock: { pass(ms: number): Promise<void> } }, ms: number) => rig.clock.pass(ms);

describe('connecting', () => {
  test('happens on first use, with all channels of the same turn in one $resume that is sent at once', async () => {
    const rig = makeRig({ token: 'secret' });
    expect(rig.client.state).toBe('closed');
    void rig.client.channel('a').subscribe();
    void rig.client.channel('b').subscribe();
    await rig.clock.settle();
    expect(rig.transport.link.sent).toEqual([
      { id: 0, event: '$resume', data: { client: rig.client.id, token: 'secret', channels: { a: null, b: null } } },
    ]);
    rig.client.close();
  });

  test('is open after the answer to $resume, not before', async () => {
    const rig = makeRig();
    const opened = rig.client.connect();
    await rig.clock.settle();
    rig.transport.link.connected();
    expect(rig.client.state).toBe('connecting');
    rig.transport.link.answer('$resume', { connection: 'c1', channels: {} });
    await opened;
    expect(rig.states).toEqual(['connecting', 'open']);
    expect(rig.client.transport).toBe('fake');
    rig.client.close();
  });

  test('comes back with one $resume that holds the position of every channel', async () => {
    const rig = makeRig();
    void rig.client.channel('a').subscribe();
    void rig.client.channel('b').subscribe();
    await rig.clock.settle();
    rig.transport.link.open({ a: answer(4), b: answer(9) });
    rig.transport.link.publication('a', 5);
    rig.transport.link.end(4503, 'draining');
    expect(rig.client.state).toBe('waiting');
    await after(rig, 1_000);
    expect(rig.transport.links).toHaveLength(2);
    expect(rig.transport.link.sent).toHaveLength(1);
    expect(rig.transport.link.resume.data.channels).toEqual({ a: position(5), b: position(9) });
    rig.client.close();
  });

  test('does not wait less than the floor, nor less than the hub asks for', async () => {
    const rig = await openRig();
    rig.link.frame({
      event: '$disconnect',
      data: { code: 4503, reason: 'draining', reconnect: true, delayMs: 7_000 },
    });
    expect(rig.link.closed).toBe(true);
    await after(rig, 6_999);
    expect(rig.transport.links).toHaveLength(1);
    await after(rig, 1);
    expect(rig.transport.links).toHaveLength(2);
    rig.transport.link.end(4529, 'rate_limited', { retryAfterMs: 30_000 });
    rig.wake();
    await after(rig, 29_999);
    expect(rig.transport.links).toHaveLength(2);
    await after(rig, 1);
    expect(rig.transport.links).toHaveLength(3);
    rig.client.close();
  });

  test('obeys retryAfterMs in a refused $resume', async () => {
    const rig = makeRig();
    void rig.client.connect();
    await rig.clock.settle();
    rig.transport.link.refuse('$resume', { code: 'rate_limited', retryAfterMs: 5_000 });
    expect(rig.client.state).toBe('waiting');
    await after(rig, 4_999);
    expect(rig.transport.links).toHaveLength(1);
    await after(rig, 1);
    expect(rig.transport.links).toHaveLength(2);
    rig.client.close();
  });

  test('never exceeds the budget, whatever wakes it up', async () => {
    const rig = makeRig({ backoff: { minMs: 1, maxMs: 2 } });
    rig.transport.onOpen = (link) => link.end();
    void rig.client.connect();
    for (let step = 0; step < 600; step++) {
      rig.wake();
      await after(rig, 100);
    }
    const times = rig.transport.links.map(({ openedAt }) => openedAt);
    expect(times.length).toBeGreaterThan(25);
    for (const start of times) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    rig.client.close();
  });

  test('forgets earlier failures only after 5 s of uptime', async () => {
    const rig = makeRig({ random: () => 0.999 });
    void rig.client.connect();
    await rig.clock.settle();
    const waitAfter = async (uptimeMs: number) => {
      rig.transport.link.open();
      await after(rig, uptimeMs);
      let waited = 0;
      rig.client.on('state', (_, { delayMs }) => (waited = delayMs ?? waited));
      rig.transport.link.end();
      await after(rig, waited);
      return Math.round(waited / 1_000);
    };
    expect(await waitAfter(4_999)).toBe(1);
    expect(await waitAfter(4_999)).toBe(2);
    expect(await waitAfter(4_999)).toBe(4);
    expect(await waitAfter(5_000)).toBe(1);
    expect(await waitAfter(0)).toBe(2);
    rig.client.close();
  });

  test('gives up a link that does not open within 10 s', async () => {
    const rig = makeRig();
    void rig.client.connect();
    await after(rig, 10_000);
    expect(rig.transport.link.closed).toBe(false);
    expect(rig.client.state).toBe('waiting');
    rig.client.close();
  });

  test('comes back sooner when the device wakes up', async () => {
    const rig = makeRig({ random: () => 0.999 });
    rig.transport.onOpen = (link) => link.end();
    void rig.client.connect();
    await after(rig, 8_000);
    const { length } = rig.transport.links;
    await rig.clock.settle();
    expect(rig.transport.links).toHaveLength(length);
    rig.wake();
    await rig.clock.settle();
    expect(rig.transport.links).toHaveLength(length + 1);
    rig.client.close();
  });
});

describe('the end of a link', () => {
  test.each([4403, 4409, 4410, 1002, 1003, 1007, 1008, 1009, 1010])(
    'with %d is the end of the client',
    async (code) => {
      const rig = await openRig();
      const chat = rig.client.channel('chat');
      void chat.subscribe();
      rig.link.answer('$subscribe', answer(1));
      await rig.clock.settle();
      rig.link.end(code, code === 4410 ? 'revoked' : 'text');
      expect(rig.client.state).toBe('closed');
      expect(chat.state).toBe('unsubscribed');
      await after(rig, 60_000);
      expect(rig.transport.links).toHaveLength(1);
      expect(rig.clock.waiting).toBe(0);
      expect(rig.wakeUpListeners()).toBe(0);
      expect(rig.errors).toEqual([expect.objectContaining({ code: code === 4410 ? 'revoked' : 'gone' })]);
      await expect(rig.client.request('echo')).rejects.toMatchObject({ code: code === 4410 ? 'revoked' : 'gone' });
    },
  );

  test.each([1000, 1001, 1005, 1006, 1011, 4500, 4503, 4504, 4507, 4508, 4529, 4530])(
    'with %d is followed by another',
    async (code) => {
      const rig = await openRig();
      rig.link.end(code);
      expect(rig.client.state).toBe('waiting');
      await after(rig, 20_000);
      expect(rig.transport.links.length).toBeGreaterThan(1);
      rig.client.close();
    },
  );

  test('is decided by $disconnect where it says whether to come back', async () => {
    const stays = await openRig();
    stays.link.frame({ event: '$disconnect', data: { code: 4500, reason: 'forbidden', reconnect: false } });
    expect(stays.client.state).toBe('closed');
    expect(stays.errors).toEqual([expect.objectContaining({ code: 'forbidden' })]);
    const comes = await openRig();
    comes.link.frame({ event: '$disconnect', data: { code: 4403, reason: 'forbidden', reconnect: true } });
    expect(comes.client.state).toBe('waiting');
    comes.client.close();
  });
});

describe('the token', () => {
  test('is fetched anew when it was refused, and used over reconnects otherwise', async () => {
    const token = jest.fn(() => `token-${token.mock.calls.length}`);
    const rig = makeRig({ token });
    void rig.client.connect();
    await rig.clock.settle();
    rig.transport.link.open();
    await after(rig, 6_000);
    rig.transport.link.end();
    await after(rig, 1_000);
    expect(rig.transport.link.resume.data.token).toBe('token-1');
    rig.transport.link.end(4401, 'token_expired');
    await after(rig, 2_000);
    expect(rig.transport.link.resume.data.token).toBe('token-2');
    rig.client.close();
  });

  test('closes the client when two fetched in a row are refused', async () => {
    const token = jest.fn(() => Promise.resolve('bad'));
    const rig = makeRig({ token });
    rig.transport.onOpen = (link) => link.end(4401, 'unauthenticated');
    const opened = rig.client.connect();
    await after(rig, 60_000);
    expect(token).toHaveBeenCalledTimes(2);
    expect(rig.client.state).toBe('closed');
    await expect(opened).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  test('closes the client at once when it is a text', async () => {
    const rig = makeRig({ token: 'bad' });
    rig.transport.onOpen = (link) => link.refuse('$resume', { code: 'unauthenticated' });
    void rig.client.connect();
    await rig.clock.settle();
    expect(rig.client.state).toBe('closed');
    expect(rig.transport.links).toHaveLength(1);
  });

  test('is fetched and sent as $auth on $refresh', async () => {
    const token = jest.fn(() => `token-${token.mock.calls.length}`);
    const rig = makeRig({ token });
    void rig.client.connect();
    await rig.clock.settle();
    rig.transport.link.open().frame({ event: '$refresh' });
    await rig.clock.settle();
    expect(rig.transport.link.last('$auth')).toEqual({ event: '$auth', data: { token: 'token-2' } });
    rig.client.close();
  });

  test('that cannot be fetched is told, and tried again', async () => {
    const token = jest
      .fn(() => 'good')
      .mockImplementationOnce(() => {
        throw new Error('offline');
      });
    const rig = makeRig({ token });
    void rig.client.connect();
    await after(rig, 1_000);
    expect(rig.errors).toEqual([expect.objectContaining({ message: 'offline' })]);
    expect(rig.transport.link.resume.data.token).toBe('good');
    rig.client.close();
  });
});

describe('a token that fails', () => {
  test('says nothing about the transport', async () => {
    const first = new FakeTransport('first');
    const second = new FakeTransport('second');
    let failures = 0;
    const token = () => (failures < 3 ? Promise.reject(new Error('offline')) : 'good');
    const rig = makeRig({ transports: [first, second], token });
    rig.client.on('error', () => failures++);
    first.onOpen = (link) => link.open();
    void rig.client.connect();
    await after(rig, 10_000);
    expect(rig.errors).toHaveLength(3);
    expect(second.links).toHaveLength(0);
    expect(rig.client.transport).toBe('first');
    rig.client.close();
  });

  test('to come in time is told, and fetched again', async () => {
    const token = jest.fn(() => (token.mock.calls.length === 1 ? new Promise<string>(() => {}) : 'good'));
    const rig = makeRig({ token });
    void rig.client.connect();
    await after(rig, 9_999);
    expect(rig.client.state).toBe('connecting');
    await after(rig, 1_001);
    expect(rig.errors).toEqual([expect.objectContaining({ message: 'No token in time' })]);
    expect(rig.transport.link.resume.data.token).toBe('good');
    rig.client.close();
  });

  test('and one that is slow takes nothing from the time that a link has to open', async () => {
    const rig = makeRig({ token: () => new Promise((resolve) => rig.clock.after(8_000, () => resolve('good'))) });
    void rig.client.connect();
    await after(rig, 8_000);
    await after(rig, 9_999);
    expect(rig.client.state).toBe('connecting');
    rig.transport.link.open();
    expect(rig.client.state).toBe('open');
    await after(rig, 5_000);
    expect(rig.client.state).toBe('open');
    rig.client.close();
  });
});

describe('a device that wakes up', () => {
  test('drops an open link that is not heard within 3 s', async () => {
    const rig = await openRig();
    await after(rig, 5_000);
    rig.wake();
    expect(rig.link.sent.at(-1)).toEqual({ id: 'wake', event: '$cancel', data: { id: 0 } });
    await after(rig, 2_000);
    rig.wake();
    expect(rig.client.state).toBe('open');
    await after(rig, 1_000);
    expect(rig.client.state).toBe('waiting');
    expect(rig.link.closed).toBe(false);
    await after(rig, 1_500);
    rig.transport.link.open();
    await after(rig, 10_000);
    expect(rig.client.state).toBe('open');
    rig.client.close();
    expect(rig.clock.waiting).toBe(0);
  });

  test('keeps a link that answers, and its heartbeat', async () => {
    const rig = await openRig();
    rig.wake();
    await after(rig, 100);
    rig.link.frame({ id: 'wake', data: null });
    await after(rig, 42_999);
    expect(rig.client.state).toBe('open');
    await after(rig, 1);
    expect(rig.client.state).toBe('waiting');
    rig.client.close();
  });
});

describe('a $resume that would be too large for a frame', () => {
  test('leaves channels out, which are subscribed when it is answered', async () => {
    const rig = makeRig();
    void rig.client.connect();
    await rig.clock.settle();
    rig.transport.link.connected({ maxFrameBytes: 4_096 });
    rig.transport.link.answer('$resume', { connection: 'c1', channels: {} });
    const names = Array.from({ length: 300 }, (_, i) => `"ü-${i}`);
    for (const name of names) void rig.client.channel(name).subscribe();
    await rig.clock.settle();
    for (const { id, data } of rig.transport.link.sent.slice(1)) {
      expect(data.channel).toBe(names[Number(id) - 1]);
      rig.transport.link.frame({ id, data: answer(7) });
    }
    await rig.clock.settle();
    rig.transport.link.end();
    await after(rig, 1_000);
    const { link } = rig.transport;
    expect(Buffer.byteLength(JSON.stringify(link.resume))).toBeLessThanOrEqual(4_096);
    const named = Object.keys(link.resume.data.channels);
    expect(named.length).toBeGreaterThan(80);
    link.answer('$resume', {
      connection: 'c2',
      channels: Object.fromEntries(named.map((name) => [name, answer(7, { recovered: true, until: position(7) })])),
    });
    await rig.clock.settle();
    const asked = link.sent.filter(({ event }) => event === '$subscribe').map(({ data }) => data);
    expect(asked).toEqual(names.slice(named.length).map((channel) => ({ channel, since: position(7) })));
    rig.client.close();
  });
});

describe('the heartbeat', () => {
  test('is answered', async () => {
    const rig = await openRig();
    rig.link.frame({ event: '$ping' });
    expect(rig.link.last('$pong')).toEqual({ event: '$pong' });
    rig.client.close();
  });

  test('drops a link that is silent for interval, timeout and slack', async () => {
    const rig = await openRig();
    await after(rig, 42_000);
    rig.link.frame({ event: '$ping' });
    await after(rig, 42_999);
    expect(rig.client.state).toBe('open');
    await after(rig, 1);
    expect(rig.client.state).toBe('waiting');
    expect(rig.link.closed).toBe(false);
    rig.client.close();
  });

  test('counts comments as life', async () => {
    const rig = await openRig();
    for (let step = 0; step < 5; step++) {
      await after(rig, 40_000);
      rig.link.context.onAlive();
    }
    expect(rig.client.state).toBe('open');
    rig.client.close();
  });
});

describe('suspended', () => {
  test('is told after the smallest history window, and left by coming back', async () => {
    const rig = makeRig();
    void rig.client.channel('a').subscribe();
    void rig.client.channel('b').subscribe();
    void rig.client.channel('c').subscribe();
    await rig.clock.settle();
    const link = rig.transport.link;
    link.open({ a: answer(1), b: answer(1, { windowMs: 60_000 }), c: answer(0, { windowMs: 0, size: 0 }) });
    rig.transport.onOpen = (next) => next.end();
    rig.transport.link.end();
    await after(rig, 59_999);
    expect(rig.states).not.toContain('suspended');
    await after(rig, 1);
    expect(rig.client.state).toBe('suspended');
    const attempts = rig.transport.links.length;
    await after(rig, 60_000);
    expect(rig.transport.links.length).toBeGreaterThan(attempts);
    expect(rig.client.state).toBe('suspended');
    rig.transport.onOpen = (next) => {
      next.open({
        a: answer(1, { recovered: true, until: position(1) }),
        b: answer(9, { recovered: false }),
        c: answer(0),
      });
    };
    const told: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      rig.client.channel(name).on('recovered', () => told.push(`${name} recovered`));
      rig.client.channel(name).on('lost', () => told.push(`${name} lost`));
    }
    await after(rig, 30_000);
    expect(rig.client.state).toBe('open');
    expect(told).toEqual(['a recovered', 'b lost', 'c recovered']);
    rig.client.close();
  });
});

describe('transports', () => {
  const makePair = (options = {}) => {
    const first = new FakeTransport('first');
    const second = new FakeTransport('second');
    return { first, second, rig: makeRig({ transports: [first, second], ...options }) };
  };

  /** A rig whose first transport does not work, with a link open over the second one. */
  const openFallback = async (options = {}) => {
    const pair = makePair(options);
    pair.first.onOpen = (link) => link.end();
    void pair.rig.client.connect();
    await after(pair.rig, 1_500);
    pair.second.link.open();
    await pair.rig.clock.settle();
    expect(pair.rig.client.transport).toBe('second');
    return pair;
  };

  test('follow each other when one fails before it ever opened, within one budget', async () => {
    const { first, second, rig } = makePair();
    first.onOpen = second.onOpen = (link) => link.end();
    void rig.client.connect();
    await after(rig, 60_000);
    const all = [...first.links, ...second.links].sort((a, b) => a.openedAt - b.openedAt);
    expect(all.slice(0, 4).map(({ context }) => first.links.some((link) => link.context === context))).toEqual([
      true,
      false,
      true,
      false,
    ]);
    for (const { openedAt } of all) {
      expect(all.filter((link) => link.openedAt >= openedAt && link.openedAt < openedAt + 10_000).length).toBeLessThan(
        11,
      );
    }
    rig.client.close();
  });

  test('are not changed by a short outage: the first one is left after three attempts', async () => {
    const { first, second, rig } = makePair();
    void rig.client.connect();
    await rig.clock.settle();
    first.link.open();
    await after(rig, 6_000);
    first.onOpen = (link) => link.end();
    first.link.end();
    for (let step = 0; first.links.length < 3 && step < 100; step++) await after(rig, 100);
    first.onOpen = (link) => link.open();
    await after(rig, 20_000);
    expect(second.links).toHaveLength(0);
    expect(rig.client.transport).toBe('first');
    first.onOpen = (link) => link.end();
    first.link.end();
    second.onOpen = (link) => link.open();
    await after(rig, 20_000);
    expect(first.links.length).toBe(3 + 1 + 3);
    expect(rig.client.transport).toBe('second');
    rig.client.close();
  });

  test('stay with the one that works when its link is cut, for three attempts', async () => {
    const { first, second, rig } = await openFallback();
    await after(rig, 6_000);
    second.onOpen = (link) => link.end();
    second.link.end();
    for (let step = 0; first.links.length < 2 && step < 300; step++) await after(rig, 100);
    expect(second.links).toHaveLength(1 + 3);
    first.onOpen = (link) => link.open();
    await after(rig, 40_000);
    expect(rig.client.transport).toBe('first');
    rig.client.close();
  });

  test('stay where the hub ended the link itself', async () => {
    const { first, second, rig } = await openFallback();
    second.link.frame({ event: '$disconnect', data: { code: 1001, reason: 'rotated', reconnect: true } });
    await after(rig, 1_500);
    expect(first.links).toHaveLength(1);
    expect(second.links).toHaveLength(2);
    rig.client.close();
  });

  test('come back to the first one, which is tried by a link of its own: the other stays open until it answers', async () => {
    const { first, second, rig } = await openFallback();
    const chat = rig.client.channel('chat');
    void chat.subscribe();
    await rig.clock.settle();
    second.link.answer('$subscribe', answer(4));
    first.onOpen = () => {};
    await after(rig, 29_999);
    expect(first.links).toHaveLength(1);
    await after(rig, 7_501);
    expect(first.links).toHaveLength(2);
    expect(first.link.resume.data).toEqual({ client: rig.client.id, channels: {} });
    second.link.publication('chat', 5);
    expect(second.link.closed).toBeUndefined();
    const told: unknown[] = [];
    chat.on('lost', () => told.push('lost'));
    chat.on('recovered', ({ count }) => told.push(count));
    const probe = first.link.open();
    await rig.clock.settle();
    expect(probe.closed).toBe(true);
    expect(second.link.closed).toBe(false);
    expect(first.links).toHaveLength(3);
    expect(first.link.resume.data.channels).toEqual({ chat: position(5) });
    first.link.open({ chat: answer(5, { recovered: true, until: position(6) }) });
    first.link.publication('chat', 6);
    expect(rig.client.transport).toBe('first');
    expect(told).toEqual([1]);
    expect(rig.states).toEqual(['connecting', 'waiting', 'connecting', 'open', 'connecting', 'open']);
    await after(rig, 20_000);
    second.links[0]!.publication('chat', 7);
    expect(chat.position).toBe(position(6));
    rig.client.close();
    expect(rig.clock.waiting).toBe(0);
  });

  test('are tried again less and less often, each time closing what did not answer', async () => {
    const { first, second, rig } = await openFallback();
    first.onOpen = () => {};
    const start = second.link.openedAt;
    for (let step = 0; step < 40; step++) {
      await after(rig, 30_000);
      second.link.context.onAlive();
    }
    const waits = first.links.slice(1).map(({ openedAt }, i) => {
      const before = i === 0 ? start : first.links[i]!.openedAt;
      return (openedAt - before) / 1_000;
    });
    const least = [30, 60, 120, 240, 240, 240];
    expect(waits.length).toBeGreaterThanOrEqual(5);
    waits.forEach((wait, i) => {
      expect(wait).toBeGreaterThanOrEqual(least[i]!);
      expect(wait).toBeLessThanOrEqual(least[i]! * 1.25);
    });
    const closed = first.links.slice(1).map((link) => link.closed);
    expect(closed).toEqual([...closed.slice(1).map(() => true), undefined]);
    expect(rig.client.state).toBe('open');
    rig.client.close();
    expect(first.link.closed).toBe(true);
    expect(rig.clock.waiting).toBe(0);
  });

  test('come back over a refusal, an end and a token that fails', async () => {
    let fails = false;
    const token = () => (fails ? Promise.reject(new Error('offline')) : 'good');
    const { first, second, rig } = await openFallback({ token });
    first.onOpen = (link) => link.refuse('$resume', { code: 'internal' });
    await after(rig, 40_000);
    second.link.context.onAlive();
    expect(first.links).toHaveLength(2);
    second.link.frame({ event: '$refresh' });
    fails = true;
    await rig.clock.settle();
    for (let step = 0; step < 5; step++) {
      await after(rig, 30_000);
      second.link.context.onAlive();
    }
    fails = false;
    first.onOpen = (link) => link.open();
    for (let step = 0; step < 10 && rig.client.transport === 'second'; step++) {
      await after(rig, 30_000);
      second.link.context.onAlive();
    }
    expect(rig.client.transport).toBe('first');
    rig.client.close();
  });

  test('are not changed back while requests are in flight over the other one', async () => {
    const { first, second, rig } = await openFallback();
    first.onOpen = (link) => link.open();
    const request = rig.client.request('slow', 1, { timeoutMs: 90_000 });
    await after(rig, 40_000);
    expect(first.links).toHaveLength(2);
    expect(rig.client.transport).toBe('second');
    second.link.answer('slow', 'done');
    await expect(request).resolves.toBe('done');
    second.link.context.onAlive();
    await after(rig, 40_000);
    second.link.context.onAlive();
    await after(rig, 40_000);
    expect(rig.client.transport).toBe('first');
    rig.client.close();
  });

  test('are not changed when the hub itself refuses', async () => {
    const { first, second, rig } = makePair();
    first.onOpen = (link) => link.end(4503, 'draining');
    void rig.client.connect();
    await after(rig, 20_000);
    expect(first.links.length).toBeGreaterThan(1);
    expect(second.links).toHaveLength(0);
    rig.client.close();
  });

  test('must exist where the client is made', () => {
    const globals = globalThis as { WebSocket?: unknown };
    const { WebSocket } = globals;
    delete globals.WebSocket;
    try {
      expect(() => new RealtimeClient('https://example.com/realtime')).toThrow(/`WebSocket`/);
      expect(() => new RealtimeClient('https://example.com/realtime', { receiveOnly: true })).not.toThrow();
    } finally {
      if (WebSocket !== undefined) globals.WebSocket = WebSocket;
    }
  });

  test('need a whole address outside of a page', () => {
    const transports = [new FakeTransport()];
    expect(() => new RealtimeClient('/realtime', { transports })).toThrow(/Invalid URL/);
    expect(() => new RealtimeClient('ftp://example.com', { transports })).toThrow(/http/);
  });
});

describe('closing', () => {
  test('says goodbye and leaves no timer and no listener', async () => {
    const rig = await openRig();
    const chat = rig.client.channel('chat');
    chat.on('presence', () => {});
    const request = rig.client.request('echo');
    request.catch(() => {});
    await rig.clock.settle();
    rig.client.close();
    expect(rig.link.closed).toBe(true);
    expect(rig.clock.waiting).toBe(0);
    expect(rig.wakeUpListeners()).toBe(0);
    await expect(request).rejects.toMatchObject({ code: 'outcome_unknown' });
    await expect(chat.publish('message', 1)).rejects.toMatchObject({ code: 'gone' });
    expect(rig.client.state).toBe('closed');
  });

  test('can be followed by connect()', async () => {
    const rig = await openRig();
    rig.client.close();
    const opened = rig.client.connect();
    await rig.clock.settle();
    rig.transport.link.open();
    await opened;
    expect(rig.client.state).toBe('open');
    rig.client.close();
  });

  test('can be followed by connect() in a listener of the state, and by new subscriptions', async () => {
    const rig = await openRig();
    const told: string[] = [];
    rig.client.on('error', ({ message }) => told.push(message));
    const stop = rig.client.on('state', (state) => {
      told.push(state);
      if (state !== 'closed') return;
      stop();
      void rig.client.connect();
      void rig.client.channel('chat').subscribe();
    });
    void rig.client.channel('chat').subscribe();
    await rig.clock.settle();
    rig.link.end(4403, 'forbidden');
    expect(told).toEqual(['closed', 'Closed with 4403 forbidden']);
    await rig.clock.settle();
    rig.transport.link.open({ chat: answer(1) });
    expect(rig.client.state).toBe('open');
    expect(rig.client.channel('chat').state).toBe('subscribed');
    const request = rig.client.request('echo');
    await rig.clock.settle();
    rig.transport.link.answer('echo', 1);
    await expect(request).resolves.toBe(1);
    rig.client.close();
  });

  test('reconnect() drops the link without a goodbye and comes back', async () => {
    const rig = await openRig();
    rig.client.reconnect();
    expect(rig.link.closed).toBe(false);
    expect(rig.client.state).toBe('waiting');
    await after(rig, 1_000);
    rig.transport.link.open();
    expect(rig.client.stats.opened).toBe(2);
    rig.client.close();
  });
});
