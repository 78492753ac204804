import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { Connection } from '../../../lib/hub/connection.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { TestNode, TOKEN, tokens, type NodeOptions } from './support/node.js';
import { Trickle } from './support/trickle.js';
import { clientClose, clientFrame, RawWire } from './support/wire.js';

const nodes: TestNode[] = [];
const wires: RawWire[] = [];

async function start(options?: NodeOptions): Promise<TestNode> {
  const node = await TestNode.start(options);
  nodes.push(node);
  return node;
}

async function connect(node: TestNode, headers?: Record<string, string>, behind?: Buffer): Promise<RawWire> {
  const wire = await RawWire.upgrade(node.port, '/realtime', headers, behind);
  wires.push(wire);
  return wire;
}

/** Waits for a text frame. */
async function text(wire: RawWire): Promise<any> {
  const { opcode, payload } = await wire.frame();
  expect(opcode).toBe(1);
  return JSON.parse(payload.toString());
}

/** A connection that was greeted. */
async function greeted(node: TestNode): Promise<RawWire> {
  const wire = await connect(node);
  expect(await text(wire)).toMatchObject({ event: '$connected' });
  return wire;
}

/** How a connection ends. */
function closeOf(connection: Connection): Promise<[code: number, reason: string]> {
  return new Promise((resolve) => connection.on('close', (code: number, reason: string) => resolve([code, reason])));
}

afterEach(async () => {
  jest.restoreAllMocks();
  for (const wire of wires.splice(0)) wire.socket.destroy();
  for (const node of nodes.splice(0)) await node.stop();
});

describe('webSocket()', () => {
  it('answers the upgrade without waiting for connection hooks that take long', async () => {
    let end: () => void = () => undefined;
    const hook = new Promise<void>((resolve) => (end = resolve));
    const node = await start({ application: { connected: () => hook } });
    const wire = await connect(node);
    expect(await wire.head()).toMatch(/^HTTP\/1\.1 101 /);
    end();
    expect(await text(wire)).toMatchObject({ event: '$connected' });
  });

  it('tells that there is no limit for frames where it is off', async () => {
    const wire = await connect(await start({ limits: { maxFrameBytes: false } }));
    expect((await text(wire)).data.maxFrameBytes).toBeNull();
  });

  it('answers the upgrade as RFC 6455 computes it, without extensions and subprotocol', async () => {
    const wire = await connect(await start(), { 'Sec-WebSocket-Extensions': 'permessage-deflate' });
    const head = await wire.head();
    expect(head).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/);
    expect(head).toContain('Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n');
    expect(head).not.toMatch(/Extensions|Protocol:/);
  });

  it('serves frames that come right behind the handshake, and reads binary frames as text', async () => {
    const behind = Buffer.concat([
      clientFrame('{"id":1,"event":"echo","data":1}'),
      clientFrame('{"id":2,"event":"echo","data":2}', 0x82),
    ]);
    const wire = await connect(await start(), {}, behind);
    await text(wire);
    expect([await text(wire), await text(wire)]).toEqual([
      { id: 1, data: 1 },
      { id: 2, data: 2 },
    ]);
  });

  it('joins a fragmented frame', async () => {
    const wire = await greeted(await start());
    wire.socket.write(Buffer.concat([clientFrame('{"id":1,"event":', 0x01), clientFrame('"echo","data":3}', 0x80)]));
    expect(await text(wire)).toEqual({ id: 1, data: 3 });
  });

  it('answers bad UTF-8 with bad_frame and stays open; U+FFFD itself is good', async () => {
    const wire = await greeted(await start());
    wire.socket.write(clientFrame(Buffer.from([0x22, 0xff, 0x22])));
    expect(await text(wire)).toMatchObject({ event: 'exception', data: { status: 'error', code: 'bad_frame' } });
    wire.socket.write(clientFrame('{"id":1,"event":"echo","data":"\ufffd"}'));
    expect(await text(wire)).toEqual({ id: 1, data: '\ufffd' });
  });

  it('answers a ping with its payload', async () => {
    const wire = await greeted(await start());
    wire.socket.write(clientFrame('hi', 0x89));
    expect(await wire.frame()).toEqual({ opcode: 10, payload: Buffer.from('hi') });
  });

  it('tells a frame above the limit by $disconnect, then closes with 1009', async () => {
    const node = await start({ limits: { maxFrameBytes: 128 } });
    const wire = await greeted(node);
    wire.socket.write(clientFrame('x'.repeat(129)));
    expect(await text(wire)).toEqual({
      event: '$disconnect',
      data: { code: 1009, reason: 'frame_too_large', reconnect: false },
    });
    const close = await wire.frame();
    expect(close.opcode).toBe(8);
    expect(close.payload.readUInt16BE()).toBe(1009);
    expect(close.payload.subarray(2).toString()).toBe('frame_too_large');
    wire.socket.write(clientClose(1009));
    await wire.ended;
    const [connection] = await node.connected();
    expect(connection!.closed).toEqual({ code: 1009, reason: 'frame_too_large' });
  });

  it('destroys a peer that does not answer the close frame', async () => {
    const node = await start();
    await connect(node);
    const [connection] = await node.connected();
    const closed = closeOf(connection!);
    connection!.close(4403, 'forbidden');
    expect(await closed).toEqual([4403, 'forbidden']);
    expect(node.hub.connections.size).toBe(0);
  });

  it('tells the code and reason of a peer that closes, and echoes the close frame', async () => {
    const node = await start();
    const wire = await greeted(node);
    const [connection] = await node.connected();
    const closed = closeOf(connection!);
    wire.socket.write(clientClose(4000, 'bye'));
    const echo = await wire.frame();
    expect([echo.opcode, echo.payload.readUInt16BE()]).toEqual([8, 4000]);
    expect(await closed).toEqual([4000, 'bye']);
    await wire.ended;
  });

  it('ends with 1006 where the connection is reset, and with 1002 where the peer breaks the protocol', async () => {
    const node = await start();
    const wire = await greeted(node);
    const [connection] = await node.connected();
    const reset = closeOf(connection!);
    wire.socket.resetAndDestroy();
    expect(await reset).toEqual([1006, '']);
    const other = await greeted(node);
    const [, broken] = await node.connected(2);
    const closed = closeOf(broken!);
    other.socket.write(Buffer.from([0x8f, 0x80, 0, 0, 0, 0]));
    expect(await closed).toEqual([1002, '']);
    expect(node.errors).toEqual([]);
  });

  it('closes with a code that may be sent where the application gives one that may not', async () => {
    const node = await start();
    const wire = await greeted(node);
    const [connection] = await node.connected();
    connection!.close(1006, 'lost');
    expect(await text(wire)).toMatchObject({ event: '$disconnect', data: { code: 1006, reason: 'lost' } });
    expect((await wire.frame()).payload.readUInt16BE()).toBe(1000);
  });

  it('keeps a peer that reads, however late it finds the question, and ends one that stops', async () => {
    const clock = new ManualClock();
    const node = await start({
      clock,
      heartbeat: { intervalMs: 800, timeoutMs: 700 },
      channels: { 'chat.:room': { slowConsumer: 'dropOldest' } },
    });
    const peer = await greeted(node);
    peer.socket.write(clientFrame('{"id":1,"event":"$resume","data":{"client":"c","channels":{"chat.a":null}}}'));
    expect(await text(peer)).toMatchObject({ id: 1 });
    const [connection] = await node.connected();
    const closed = closeOf(connection!);
    const trickle = new Trickle(node, peer.socket, clock);
    await trickle.readThrough(3_500);
    expect([connection!.resumed, connection!.closed]).toEqual([true, undefined]);
    await trickle.stallThrough(4_000);
    expect(await closed).toEqual([4507, 'heartbeat_timeout']);
  });

  it('selects the subprotocol bearer alone and takes the token from it', async () => {
    const node = await start({ auth: tokens });
    const peer = new WebSocket(`ws://${node.host}/realtime`, ['bearer', TOKEN.ann]);
    await once(peer, 'open');
    const [connection] = await node.connected();
    expect([peer.protocol, connection!.user?.id]).toEqual(['bearer', 'ann']);
    peer.close();
    await once(peer, 'close');
  });

  it('forgets a peer that goes while its guards run', async () => {
    let release: () => void = () => undefined;
    const guarded = new Promise<void>((resolve) => (release = resolve));
    let arrived: () => void = () => undefined;
    const admitted = new Promise<void>((resolve) => (arrived = resolve));
    let connects = 0;
    const node = await start({
      application: {
        admit: () => {
          arrived();
          return guarded;
        },
        connected: () => {
          connects++;
          return Promise.resolve();
        },
      },
    });
    const server = once(node.server, 'connection');
    const wire = await connect(node);
    const [socket] = await server;
    await admitted;
    const gone = new Promise((resolve) => socket.once('close', resolve));
    wire.socket.resetAndDestroy();
    await gone;
    release();
    await new Promise(setImmediate);
    expect([connects, node.hub.connections.size]).toEqual([0, 0]);
    expect(node.errors).toEqual([]);
  });

  it('writes the publications of a turn as whole frames in one buffer', async () => {
    const node = await start({ limits: { inlineBytes: false } });
    const wire = await greeted(node);
    wire.socket.write(clientFrame('{"id":1,"event":"$subscribe","data":{"channel":"chat.a"}}'));
    const { position } = (await text(wire)).data;
    const long = 'x'.repeat(70_000);
    await Promise.all([node.publish('chat.a', 'message', 'ä'), node.publish('chat.a', 'message', 'y'.repeat(200))]);
    expect(await text(wire)).toMatchObject({ channel: 'chat.a', event: 'message', data: 'ä', offset: 1 });
    expect(await text(wire)).toMatchObject({ data: 'y'.repeat(200), offset: 2 });
    expect(position).toMatch(/^\w{6}-0-0$/);
    void node.publish('chat.a', 'message', long);
    await wire.until(({ bytes }) => bytes.length >= 70_000 + 10);
    expect(wire.bytes.subarray(0, 2)).toEqual(Buffer.from([0x81, 127]));
    const length = Number(wire.bytes.readBigUInt64BE(2));
    await wire.until(({ bytes }) => bytes.length >= length + 10);
    expect(JSON.parse(wire.bytes.subarray(10).toString())).toMatchObject({ data: long, offset: 3 });
  });
});
