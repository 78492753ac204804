import { describe, expect, test } from '@jest/globals';
import { RealtimeClient, type WebSocketLike } from '../../../lib/client/index.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

class FakeWebSocket implements WebSocketLike {
  static made: FakeWebSocket[] = [];
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  readonly sent: string[] = [];
  readonly closings: unknown[][] = [];

  constructor(readonly url: string) {
    FakeWebSocket.made.push(this);
  }

  send(text: string): void {
    this.sent.push(text);
  }

  close(...args: unknown[]): void {
    this.closings.push(args);
  }
}

class TerminableWebSocket extends FakeWebSocket {
  terminated = 0;
  terminate(): void {
    this.terminated++;
  }
}

async function makeRig(WebSocket: typeof FakeWebSocket = FakeWebSocket) {
  FakeWebSocket.made = [];
  const clock = new ManualClock(1_700_000_000_000);
  const client = new RealtimeClient('https://example.com/realtime', { WebSocket, clock, wakeUps: () => () => {} });
  void client.connect();
  await clock.settle();
  return { clock, client, socket: FakeWebSocket.made[0]! };
}

const open = (socket: FakeWebSocket) => {
  socket.onopen?.({});
  socket.onmessage?.({ data: '{"id":0,"data":{"connection":"c1","channels":{}}}' });
};

describe('the WebSocket link', () => {
  test('holds $resume until the socket is open', async () => {
    const { client, socket } = await makeRig();
    expect(socket.url).toBe('wss://example.com/realtime');
    expect(socket.sent).toEqual([]);
    open(socket);
    expect(socket.sent).toEqual([`{"id":0,"event":"$resume","data":{"client":"${client.id}","channels":{}}}`]);
    expect(client.state).toBe('open');
    client.close();
    expect(socket.closings).toEqual([[1000]]);
  });

  test('survives what is no frame', async () => {
    const { client, socket } = await makeRig();
    open(socket);
    for (const data of ['', 'no', '1', 'null', new ArrayBuffer(3), '[]', '{}', '{"id":99}', '{"event":5}']) {
      socket.onmessage?.({ data });
    }
    expect(client.state).toBe('open');
    client.close();
  });

  test('ends with the code and reason of the close', async () => {
    const { client, socket } = await makeRig();
    open(socket);
    const told: unknown[] = [];
    client.on('state', (state, details) => told.push([state, details]));
    socket.onerror?.({});
    socket.onclose?.({ code: 4503, reason: 'draining' });
    expect(told).toEqual([['waiting', { code: 4503, reason: 'draining', delayMs: expect.any(Number) }]]);
    client.close();
  });

  test('is dropped without a goodbye, at once where the socket can', async () => {
    const browser = await makeRig();
    open(browser.socket);
    browser.client.reconnect();
    expect(browser.socket.closings).toEqual([[4000]]);
    browser.client.close();
    const node = await makeRig(TerminableWebSocket);
    open(node.socket);
    node.client.reconnect();
    expect((node.socket as TerminableWebSocket).terminated).toBe(1);
    expect(node.socket.closings).toEqual([]);
    node.client.close();
  });

  test('is ended 1 s after a goodbye that nobody answers, where the socket can', async () => {
    const { client, clock, socket } = await makeRig(TerminableWebSocket);
    open(socket);
    client.close();
    expect(socket.closings).toEqual([[1000]]);
    await clock.pass(999);
    expect((socket as TerminableWebSocket).terminated).toBe(0);
    await clock.pass(1);
    expect((socket as TerminableWebSocket).terminated).toBe(1);
    const answered = await makeRig(TerminableWebSocket);
    open(answered.socket);
    answered.client.close();
    answered.socket.onclose?.({ code: 1000, reason: '' });
    expect(answered.clock.waiting).toBe(0);
  });

  test('that closes late does not end the link that followed', async () => {
    const { client, clock, socket } = await makeRig();
    open(socket);
    client.reconnect();
    await clock.pass(1_000);
    open(FakeWebSocket.made[1]!);
    socket.onmessage?.({ data: '{"event":"$disconnect","data":{"code":4403,"reason":"forbidden","reconnect":false}}' });
    socket.onclose?.({ code: 4403, reason: 'forbidden' });
    expect(client.state).toBe('open');
    client.close();
  });
});
