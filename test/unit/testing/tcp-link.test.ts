import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { once } from 'node:events';
import { connect, createServer, Socket, type AddressInfo, type Server } from 'node:net';
import { TcpLink } from '../../../lib/testing/tcp-link.js';

/** What a socket got so far. */
class Reader {
  text = '';
  #wake: () => void = () => undefined;
  readonly failed: Promise<NodeJS.ErrnoException>;

  constructor(readonly socket: Socket) {
    socket.setEncoding('latin1').on('data', (piece: string) => {
      this.text += piece;
      this.#wake();
    });
    this.failed = new Promise((resolve) => socket.on('error', resolve));
  }

  async until(length: number): Promise<string> {
    while (this.text.length < length) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.text;
  }
}

describe('TcpLink', () => {
  let server: Server;
  let link: TcpLink;
  let arrived: Reader[];
  const opened: Socket[] = [];

  beforeEach(async () => {
    arrived = [];
    server = createServer((socket) => {
      arrived.push(new Reader(socket));
      server.emit('reader', arrived.at(-1));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    link = await TcpLink.open((server.address() as AddressInfo).port);
  });
  afterEach(async () => {
    await link.close();
    for (const socket of [...opened.splice(0), ...arrived.map((reader) => reader.socket)]) socket.destroy();
    const closed = once(server, 'close');
    server.close();
    await closed;
  });

  function open(): Reader {
    const socket = connect(link.port, '127.0.0.1');
    opened.push(socket);
    return new Reader(socket);
  }

  /** Both ends of a connection through the link. */
  async function pair(): Promise<[Reader, Reader]> {
    const there = once(server, 'reader');
    const here = open();
    const [reader] = (await there) as [Reader];
    return [here, reader];
  }

  test('carries bytes and their end, either way', async () => {
    const [here, there] = await pair();
    here.socket.write('ping');
    expect(await there.until(4)).toBe('ping');
    there.socket.end('pong');
    expect(await here.until(4)).toBe('pong');
    await once(here.socket, 'close');
    expect(here.socket.errored).toBeNull();
  });

  test('holds back who sends more than is read, and loses nothing', async () => {
    const [here, there] = await pair();
    const text = 'x'.repeat(8_000_000);
    there.socket.pause();
    here.socket.write(text);
    expect(here.socket.writableNeedDrain).toBe(true);
    there.socket.resume();
    expect((await there.until(text.length)).length).toBe(text.length);
  });

  test('waits once for who does not read, however much is under way that is late', async () => {
    const waits: number[] = [];
    let blocked: () => void = () => undefined;
    const first = new Promise<void>((resolve) => (blocked = resolve));
    const register = Socket.prototype.once;
    const spy = jest.spyOn(Socket.prototype, 'once').mockImplementation(function (this: Socket, ...args: any[]) {
      if (args[0] === 'drain') {
        waits.push(this.listenerCount('drain'));
        blocked();
      }
      return (register as any).apply(this, args);
    });
    try {
      const [here, there] = await pair();
      const text = 'x'.repeat(8_000_000);
      there.socket.pause();
      link.delayMs = 100;
      here.socket.write(text);
      await first;
      await new Promise((resolve) => setImmediate(resolve)); // what was due with it has arrived too
      there.socket.resume();
      expect((await there.until(text.length)).length).toBe(text.length);
    } finally {
      spy.mockRestore();
    }
    expect(waits.length).toBeGreaterThan(0);
    expect(Math.max(...waits)).toBe(0);
  });

  test('delays bytes, of which none overtakes another, and the end behind them', async () => {
    const [here, there] = await pair();
    link.delayMs = 40;
    const start = performance.now();
    here.socket.write('slow ');
    here.socket.end('fast');
    await once(there.socket, 'end');
    expect(there.text).toBe('slow fast');
    expect(performance.now() - start).toBeGreaterThanOrEqual(39);
  });

  test('resets what is open, and lets through what comes', async () => {
    const [here, there] = await pair();
    link.drop();
    expect((await here.failed).code).toBe('ECONNRESET');
    expect((await there.failed).code).toBe('ECONNRESET');
    await pair();
  });

  test('resets what comes too while it is cut, until it is healed', async () => {
    const [here] = await pair();
    link.cut();
    expect((await here.failed).code).toBe('ECONNRESET');
    expect((await open().failed).code).toBe('ECONNRESET');
    link.heal();
    await pair();
  });

  test('tells nobody anything while it is half-open, and resets that when it is healed', async () => {
    const [here, there] = await pair();
    here.socket.write('before');
    await there.until(6);
    link.halfOpen();
    here.socket.write('lost');
    there.socket.write('lost');
    const late = open();
    await once(late.socket, 'connect');
    link.heal();
    await here.failed;
    await there.failed;
    expect([here.text, there.text]).toEqual(['', 'before']);
    await late.failed;
  });
});
