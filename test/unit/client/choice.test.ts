import { describe, expect, test } from '@jest/globals';
import type { ClientOptions } from '../../../lib/client/index.js';
import { answer, FakeTransport, makeRig, position, type FakeLink, type Rig } from './fake-transport.js';

const KEY = 'nestjs-realtime https://example.com/realtime';

/** A page's storage. */
class FakeStorage {
  readonly items = new Map<string, string>();
  getItem = (key: string) => this.items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.items.set(key, value);
  removeItem = (key: string) => void this.items.delete(key);
}

interface Trio {
  readonly rig: Rig;
  readonly socket: FakeTransport;
  readonly sse: FakeTransport;
  readonly poll: FakeTransport;
  /** The names of the transports whose links were opened, in order. */
  readonly attempts: string[];
}

function makeTrio(options: ClientOptions = {}): Trio {
  const transports = ['websocket', 'sse', 'poll'].map((name) => new FakeTransport(name));
  const attempts: string[] = [];
  for (const transport of transports) {
    const open = transport.open.bind(transport);
    transport.open = (context) => {
      attempts.push(transport.name);
      return open(context);
    };
  }
  const [socket, sse, poll] = transports as [FakeTransport, FakeTransport, FakeTransport];
  return { rig: makeRig({ transports, ...options }), socket, sse, poll, attempts };
}

const opens = (link: FakeLink): unknown => link.open();
const fails = (link: FakeLink): void => link.end();
const hangs = (): void => {};

/** Lets time pass while the link in use is heard. */
async function stay({ rig, socket, sse, poll }: Trio, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 20_000) {
    await rig.clock.pass(Math.min(left, 20_000));
    for (const { links } of [socket, sse, poll]) links.at(-1)?.context.onAlive();
  }
}

describe('the first byte', () => {
  test('must come within 4 s, or the next transport is tried; the last one has the whole time', async () => {
    const { rig, attempts } = makeTrio({ backoff: { minMs: 1, maxMs: 1 } });
    void rig.client.connect();
    await rig.clock.pass(3_999);
    expect(attempts).toEqual(['websocket']);
    await rig.clock.pass(3);
    expect(attempts).toEqual(['websocket', 'sse']);
    await rig.clock.pass(4_000);
    expect(attempts).toEqual(['websocket', 'sse', 'poll']);
    await rig.clock.pass(9_990);
    expect(attempts).toHaveLength(3);
    await rig.clock.pass(20);
    expect(attempts).toHaveLength(4);
    rig.client.close();
    expect(rig.clock.waiting).toBe(0);
  });

  test('that came in time leaves the whole time to open', async () => {
    const { rig, socket, attempts } = makeTrio();
    void rig.client.connect();
    await rig.clock.pass(3_999);
    socket.link.context.onAlive();
    await rig.clock.pass(6_000);
    expect(rig.client.state).toBe('connecting');
    socket.link.open();
    await rig.clock.pass(30_000);
    expect(rig.client.transport).toBe('websocket');
    expect(attempts).toEqual(['websocket']);
    rig.client.close();
  });
});

describe('a transport', () => {
  test('that breaks within 5 s of each opening is left after four links', async () => {
    const trio = makeTrio();
    const { rig, socket, sse, attempts } = trio;
    socket.onOpen = (link) => {
      link.open();
      rig.clock.after(1_000, () => link.end());
    };
    sse.onOpen = opens;
    void rig.client.connect();
    await rig.clock.pass(40_000);
    expect(attempts).toEqual(['websocket', 'websocket', 'websocket', 'websocket', 'sse']);
    rig.client.close();
  });

  test('that has worked is the first one again when the device comes back, whatever failed meanwhile', async () => {
    const { rig, socket, sse, poll, attempts } = makeTrio();
    void rig.client.connect();
    await rig.clock.settle();
    socket.link.open();
    await rig.clock.pass(6_000);
    socket.onOpen = sse.onOpen = poll.onOpen = fails;
    socket.link.end();
    for (let step = 0; attempts.at(-1) !== 'sse' && step < 300; step++) await rig.clock.pass(100);
    await rig.clock.pass(1);
    socket.onOpen = opens;
    rig.wake();
    await rig.clock.pass(4_000);
    expect(attempts.slice(-2)).toEqual(['sse', 'websocket']);
    expect(rig.client.transport).toBe('websocket');
    rig.client.close();
  });

  test('over which nothing comes after the opening is left too: something holds back what the hub sends', async () => {
    const { rig, socket, sse, attempts } = makeTrio();
    socket.onOpen = opens;
    sse.onOpen = opens;
    void rig.client.connect();
    await rig.clock.pass(250_000);
    expect(attempts.slice(0, 5)).toEqual(['websocket', 'websocket', 'websocket', 'websocket', 'sse']);
    rig.client.close();
  });

  test('that is better is looked for in turn, the first one first, and taken when the hub has answered there', async () => {
    const trio = makeTrio();
    const { rig, socket, sse, poll, attempts } = trio;
    socket.onOpen = sse.onOpen = fails;
    poll.onOpen = opens;
    void rig.client.connect();
    await rig.clock.pass(5_000);
    expect(rig.client.transport).toBe('poll');
    await stay(trio, 240_000);
    expect(attempts.slice(3)).toEqual(['websocket', 'sse', 'websocket']);
    sse.onOpen = opens;
    await stay(trio, 300_000);
    expect(rig.client.transport).toBe('sse');
    socket.onOpen = opens;
    await stay(trio, 600_000);
    expect(rig.client.transport).toBe('websocket');
    rig.client.close();
    expect(rig.clock.waiting).toBe(0);
  });

  test('takes over where the one before has come: nothing is lost, and nothing comes twice', async () => {
    const trio = makeTrio();
    const { rig, socket, sse, poll } = trio;
    const seen: unknown[] = [];
    const chat = rig.client.channel('chat');
    chat.on('message', (data) => seen.push(data));
    chat.on('lost', () => seen.push('lost'));
    const resumes: unknown[] = [];
    for (const transport of [socket, sse, poll]) {
      transport.onOpen = (link) => {
        const { chat: since } = link.resume.data.channels;
        if (since === undefined) return; // looks whether the hub is there
        resumes.push(since);
        const at = since === null ? 1 : Number(since.split('-')[1]);
        link.open({ chat: answer(at, since === null ? {} : { recovered: true, until: position(at + 2) }) });
        link.publication('chat', at + 1);
        link.publication('chat', at + 2);
      };
    }
    const drop = async (transport: FakeTransport): Promise<void> => {
      const { onOpen } = transport;
      transport.onOpen = fails;
      transport.link.end();
      await rig.clock.pass(30_000);
      transport.onOpen = onOpen;
    };
    await rig.clock.settle();
    await drop(socket);
    expect(rig.client.transport).toBe('sse');
    await drop(sse);
    expect(rig.client.transport).toBe('poll');
    expect(resumes).toEqual([null, position(3), position(5)]);
    expect(seen).toEqual([2, 3, 4, 5, 6, 7]);
    expect(rig.errors).toEqual([]);
    rig.client.close();
  });
});

describe('what the hub answers', () => {
  test.each([
    ['the end of every link', fails],
    ['a rate limit', (link: FakeLink) => link.end(4529, 'rate_limited')],
    ['an opening and the end', (link: FakeLink) => link.open().end()],
    ['$disconnect', (link: FakeLink) => link.frame({ event: '$disconnect', data: { code: 1001, reconnect: true } })],
    ['silence', hangs],
  ])('cannot make a client try more than 10 times in 10 s: %s', async (_, act) => {
    const { rig, socket, sse, poll } = makeTrio({
      backoff: { minMs: 0, maxMs: 0 },
      firstByteMs: 1,
      connectTimeoutMs: 2,
    });
    for (const transport of [socket, sse, poll]) transport.onOpen = act;
    void rig.client.connect();
    for (let step = 0; step < 600; step++) {
      rig.wake();
      await rig.clock.pass(100);
    }
    const times = [socket, sse, poll].flatMap(({ links }) => links.map(({ openedAt }) => openedAt));
    expect(times.length).toBeGreaterThan(20);
    for (const start of times) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    rig.client.close();
  });

  test.each([4403, 4410, 1008])('ends the client with %d over every transport', async (code) => {
    for (const over of ['websocket', 'sse', 'poll'] as const) {
      const trio = makeTrio();
      const { rig, attempts } = trio;
      const transports = { websocket: trio.socket, sse: trio.sse, poll: trio.poll };
      for (const transport of Object.values(transports)) transport.onOpen = fails;
      transports[over].onOpen = (link) => link.end(code, 'forbidden');
      void rig.client.connect().catch(() => {});
      await rig.clock.pass(60_000);
      expect(rig.client.state).toBe('closed');
      expect(attempts.at(-1)).toBe(over);
      expect(rig.clock.waiting).toBe(0);
    }
  });

  test('is what the links themselves ask is bounded by', async () => {
    const { rig, socket } = makeTrio();
    socket.onOpen = opens;
    void rig.client.connect();
    await rig.clock.settle();
    const times: number[] = [];
    const again = (): void => {
      times.push(rig.clock.now());
      socket.link.context.attempt(again);
    };
    socket.link.context.attempt(again);
    socket.link.context.attempt(again);
    await rig.clock.pass(40_000);
    expect(times.length).toBeGreaterThan(15);
    for (const start of times) {
      expect(times.filter((at) => at >= start && at < start + 10_000).length).toBeLessThanOrEqual(10);
    }
    const before = times.length;
    const cancel = socket.link.context.attempt(() => times.push(0));
    cancel();
    await rig.clock.pass(10_000);
    expect(times.slice(before)).not.toContain(0);
    rig.client.close();
  });
});

describe('memory', () => {
  test('has the next page begin with what works, for 10 minutes', async () => {
    const storage = new FakeStorage();
    const first = makeTrio({ storage });
    first.socket.onOpen = hangs;
    first.sse.onOpen = opens;
    void first.rig.client.connect();
    await first.rig.clock.pass(6_000);
    expect(first.rig.client.transport).toBe('sse');
    first.rig.client.close();

    const next = makeTrio({ storage });
    await next.rig.clock.pass(500_000);
    void next.rig.client.connect();
    await next.rig.clock.settle();
    expect(next.attempts).toEqual(['sse']);
    next.rig.client.close();

    const late = makeTrio({ storage });
    await late.rig.clock.pass(606_000);
    void late.rig.client.connect();
    await late.rig.clock.settle();
    expect(late.attempts).toEqual(['websocket']);
    late.rig.client.close();
  });

  test('is renewed while its transport is in use, and ends when the first one opens', async () => {
    const storage = new FakeStorage();
    const trio = makeTrio({ storage });
    const { rig, socket, sse } = trio;
    socket.onOpen = fails;
    sse.onOpen = opens;
    void rig.client.connect();
    await rig.clock.pass(5_000);
    const noted = storage.items.get(KEY);
    expect(noted).toMatch(/^[\d.]+ sse$/);
    await stay(trio, 100_000);
    expect(storage.items.get(KEY)).not.toBe(noted);
    socket.onOpen = opens;
    await stay(trio, 400_000);
    expect(rig.client.transport).toBe('websocket');
    expect(storage.items.size).toBe(0);
    rig.client.close();
  });

  test('that fails, is off, or holds what the client does not know, is none', async () => {
    const broken = () => {
      throw new Error('storage is forbidden');
    };
    const strange = (value: string) => {
      const storage = new FakeStorage();
      storage.items.set(KEY, value);
      return storage;
    };
    const all: ClientOptions[] = [
      { storage: { getItem: broken, setItem: broken, removeItem: broken } },
      { storage: null },
      { storage: strange('9999999999999 sse') }, // from a clock that was ahead
      { storage: strange(`${1_700_000_000_000 + 1_000} carrier-pigeon`) },
      { storage: strange('sse') },
      { storage: strange(`${1_700_000_000_000 + 1_000} sse`), rememberMs: 0 },
    ];
    for (const options of all) {
      const trio = makeTrio(options);
      trio.socket.onOpen = fails;
      trio.sse.onOpen = opens;
      void trio.rig.client.connect();
      await trio.rig.clock.pass(5_000);
      expect(trio.attempts).toEqual(['websocket', 'sse']);
      trio.rig.client.close();
    }
  });

  test('of what does not open any more is left at once', async () => {
    const storage = new FakeStorage();
    storage.items.set(KEY, `${1_700_000_000_000 + 1_000} poll`);
    const { rig, socket, poll, attempts } = makeTrio({ storage });
    poll.onOpen = fails;
    socket.onOpen = opens;
    void rig.client.connect();
    await rig.clock.pass(5_000);
    expect(attempts).toEqual(['poll', 'websocket']);
    rig.client.close();
  });
});
