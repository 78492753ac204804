import { afterEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { WebSocket } from 'ws';
import { webSocket } from '../../../lib/transports/websocket.transport.js';
import { TestNode, type NodeOptions } from './support/node.js';
import { clientFrame, RawWire } from './support/wire.js';

const OFFER = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' };
const COMPRESSED_TEXT = 0xc1;
const LONG = 'long '.repeat(1_000);

const nodes: TestNode[] = [];
const wires: RawWire[] = [];

async function start(options?: NodeOptions): Promise<TestNode> {
  const node = await TestNode.start({ transports: [webSocket({ compression: true })], ...options });
  nodes.push(node);
  return node;
}

async function connect(node: TestNode, headers?: Record<string, string>): Promise<[wire: RawWire, head: string]> {
  const wire = await RawWire.upgrade(node.port, '/realtime', headers);
  wires.push(wire);
  return [wire, await wire.head()];
}

afterEach(async () => {
  for (const wire of wires.splice(0)) wire.socket.destroy();
  for (const node of nodes.splice(0)) await node.stop();
});

describe('webSocket({ compression: true })', () => {
  it('agrees with a peer that offers it, without contexts; others get frames as they are', async () => {
    const node = await start();
    const [, head] = await connect(node, OFFER);
    expect(head).toMatch(/\r\nSec-WebSocket-Extensions: permessage-deflate;.*server_no_context_takeover/);
    expect(head).toMatch(/\r\nSec-WebSocket-Extensions: permessage-deflate;.*client_no_context_takeover/);
    const [plain, plainHead] = await connect(node);
    expect(plainHead).not.toContain('Extensions');
    plain.socket.write(clientFrame(`{"id":1,"event":"echo","data":"${LONG}"}`));
    await plain.frame();
    expect((await plain.frame()).payload.toString()).toBe(`{"id":1,"data":"${LONG}"}`);
  });

  it('declines a window of another size', async () => {
    const [, head] = await connect(await start(), {
      'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=9',
    });
    expect(head).not.toContain('Extensions');
  });

  it('compresses a publication once for all, and leaves small frames as they are', async () => {
    const node = await start();
    const peers = await Promise.all([connect(node, OFFER), connect(node, OFFER)]);
    for (const [wire] of peers) {
      wire.socket.write(clientFrame('{"id":1,"event":"$subscribe","data":{"channel":"chat.a"}}'));
      await wire.frame();
      expect((await wire.frame()).payload.toString()).toContain('"id":1');
    }
    await node.publish('chat.a', 'message', LONG);
    await node.publish('chat.a', 'message', 'short');
    const got = await Promise.all(
      peers.map(async ([wire]) => {
        await wire.until(({ bytes }) => bytes.includes('short'));
        return wire.bytes;
      }),
    );
    expect(got[0]).toEqual(got[1]);
    expect(got[0]![0]).toBe(COMPRESSED_TEXT);
    const { payload } = await peers[0][0].frame();
    expect(payload.length).toBeLessThan(LONG.length / 10);
    const text = inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 255, 255, 1, 0, 0, 255, 255])])).toString();
    expect(JSON.parse(text)).toMatchObject({ channel: 'chat.a', data: LONG });
  });

  it('talks with a peer that compresses', async () => {
    const node = await start();
    const peer = new WebSocket(`ws://${node.host}/realtime`, { perMessageDeflate: { threshold: 0 } });
    await once(peer, 'message');
    expect(peer.extensions).toBe('permessage-deflate');
    for (const data of [LONG, 'short', LONG]) {
      peer.send(JSON.stringify({ id: 1, event: 'echo', data }));
      const [bytes] = (await once(peer, 'message')) as [Buffer];
      expect(JSON.parse(bytes.toString())).toEqual({ id: 1, data });
    }
    peer.terminate();
  });

  it('ends a frame that inflates to more than the limit with frame_too_large', async () => {
    const node = await start();
    const [wire] = await connect(node, OFFER);
    await wire.frame();
    const bomb = deflateRawSync(Buffer.alloc(16 * 1024 * 1024, 0x20));
    expect(bomb.length).toBeLessThan(65_536);
    wire.socket.write(clientFrame(bomb, COMPRESSED_TEXT));
    expect(JSON.parse((await wire.frame()).payload.toString())).toMatchObject({
      event: '$disconnect',
      data: { code: 1009, reason: 'frame_too_large' },
    });
  });

  it('takes a threshold that is a number of bytes', () => {
    expect(() => webSocket({ compression: { thresholdBytes: -1 } })).toThrow('compression.thresholdBytes');
  });
});
