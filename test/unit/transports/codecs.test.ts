import { describe, expect, it } from '@jest/globals';
import type { Run } from '../../../lib/hub/ports/link.js';
import { ManySlots, OneSlot, SseCodec, chunked, unframed } from '../../../lib/transports/sse-codec.js';
import { SseCodecs } from '../../../lib/transports/sse-codecs.js';
import { WebSocketCodec } from '../../../lib/transports/websocket-codec.js';

const RUN: Run = {
  channel: 'a',
  channelJson: '"a"',
  epoch: 'AbCd12',
  items: [
    { event: 'm', data: '1', offset: 7, tag: 'k1', prevTag: 'k0' },
    { event: 'm', data: '"é"', offset: 8, tag: 'k1', prevTag: 'k1' },
  ],
};
const JSON_1 = '{"channel":"a","event":"m","data":1,"offset":7,"tag":"k1"}';
const JSON_2 = '{"channel":"a","event":"m","data":"é","offset":8,"tag":"k1"}';

describe('WebSocketCodec', () => {
  it('writes a run as unmasked text frames, one behind the other', () => {
    expect(new WebSocketCodec().run(RUN)).toEqual(
      Buffer.concat([
        Buffer.from([0x81, JSON_1.length]),
        Buffer.from(JSON_1),
        Buffer.from([0x81, JSON_2.length + 1]),
        Buffer.from(JSON_2),
      ]),
    );
  });

  it.each([
    [125, '817d'],
    [126, '817e007e'],
    [65_535, '817effff'],
    [65_536, '817f0000000000010000'],
  ])('writes the length %i as RFC 6455 says', (length, head) => {
    const frame = new WebSocketCodec().frame('x'.repeat(length));
    expect(frame.subarray(0, head.length / 2).toString('hex')).toBe(head);
    expect(frame.subarray(head.length / 2).toString()).toBe('x'.repeat(length));
  });

  it('encodes an event for all subscribers of a channel once', () => {
    const codec = new WebSocketCodec();
    const data = { rev: 1 };
    const first = codec.channelEvent(RUN, '$presence', data);
    expect(codec.channelEvent(RUN, '$presence', data)).toBe(first);
    expect(codec.channelEvent({ channelJson: '"b"' }, '$presence', data)).not.toBe(first);
    expect(codec.channelEvent(RUN, '$unsubscribed', data)).not.toBe(first);
  });
});

describe('SseCodec', () => {
  it('writes a run of the one channel: each event has its own id', () => {
    expect(new SseCodec('native', new OneSlot('a'), unframed).run(RUN).toString()).toBe(
      'event: m\nid: 1~0:AbCd12-7-k1\ndata: 1\n\nevent: m\nid: 1~0:AbCd12-8-k1\ndata: "é"\n\n',
    );
    expect(new SseCodec('frames', new OneSlot('a'), unframed).run(RUN).toString()).toBe(
      `id: 1~0:AbCd12-7-k1\ndata: ${JSON_1}\n\nid: 1~0:AbCd12-8-k1\ndata: ${JSON_2}\n\n`,
    );
  });

  it('moves its cursor with $lost', () => {
    const codec = new SseCodec('native', new ManySlots(['b', 'a']), unframed);
    const cursor = codec.slots.begin(
      new Map([
        ['a', 'AbCd12-6-k0'],
        ['b', 'ZzZz99-0-0'],
      ]),
    );
    expect(cursor).toBe('1~0:ZzZz99-0-0!1:AbCd12-6-k0');
    expect(codec.channelEvent(RUN, '$lost', { position: 'AbCd12-9-k2', reason: 'trimmed' }).toString()).toBe(
      'event: $lost\nid: 1~0:ZzZz99-0-0!1:AbCd12-9-k2\n' +
        'data: {"channel":"a","position":"AbCd12-9-k2","reason":"trimmed"}\n\n',
    );
    expect(codec.skipped(RUN, 2, 11, 'k3').toString()).toBe(
      'event: $skipped\nid: 1~0:ZzZz99-0-0!1:AbCd12-11-k3\n' +
        'data: {"channel":"a","skipped":2,"offset":11,"tag":"k3"}\n\n',
    );
  });

  it('frames its bytes as a chunk, by their length in bytes', () => {
    expect(chunked('é\n\n').toString()).toBe('4\r\né\n\n\r\n');
  });

  it('breaks data at line ends, which a field cannot hold', () => {
    const codec = new SseCodec('native', new OneSlot('a'), unframed);
    expect(codec.frame('a\rb\nc\r\nd').toString()).toBe('data: a\ndata: b\ndata: c\ndata: d\n\n');
    expect(codec.frame('{"event":"$disconnect","data":{"code":4503}}').toString()).toBe(
      'event: $disconnect\ndata: {"code":4503}\n\n',
    );
  });

  it('tells when to come back, never at once', () => {
    const codec = new SseCodec('native', new OneSlot('a'), chunked);
    expect(codec.returning(7_000).toString()).toBe('d\r\nretry: 7000\n\n\r\n');
    expect(codec.returning(0).toString()).toBe('a\r\nretry: 1\n\n\r\n');
  });
});

describe('SseCodecs', () => {
  it('gives one codec to all streams of a channel, as long as there is one', () => {
    const codecs = new SseCodecs();
    const form = { format: 'native', chunked: true } as const;
    const codec = codecs.take(['a'], form);
    expect(codecs.take(['a'], form)).toBe(codec);
    expect(codecs.take(['a'], { ...form, format: 'frames' })).not.toBe(codec);
    expect(codecs.take(['b'], form)).not.toBe(codec);
    codecs.give(codec);
    expect(codecs.take(['a'], form)).toBe(codec);
    codecs.give(codec);
    codecs.give(codec);
    expect(codecs.take(['a'], form)).not.toBe(codec);
    expect(codecs.take(['a', 'b'], form).shared).toBe(false);
  });
});
