import { beforeEach, describe, expect, it } from '@jest/globals';
import { Batch } from '../../../lib/hub/batch.js';
import type { Connection } from '../../../lib/hub/connection.js';
import { Outbox, type SlowConsumerPolicy, type Source } from '../../../lib/hub/outbox.js';
import type { Run, RunItem } from '../../../lib/hub/ports/link.js';
import { ChannelTally } from '../../../lib/hub/ports/meter.js';
import { Turn } from '../../../lib/hub/turn.js';
import { ManualTurnClock } from '../../support/manual-turn-clock.js';
import { LineCodec, TestLink, type ReceivedFrame } from '../../support/test-link.js';

const WINDOW = 64 * 1024;
const MAX_BYTES = 1024 * 1024;
const NAME = { channel: 'chat.a', channelJson: '"chat.a"', tally: new ChannelTally() };
const DATA = JSON.stringify('x'.repeat(60_000));

/** Counts what it encodes. */
class CountingCodec extends LineCodec {
  runs = 0;

  override run(run: Run): Buffer {
    this.runs++;
    return super.run(run);
  }
}

/** Items as the channel gives them: contiguous. */
function items(
  first: number,
  count: number,
  data: (offset: number) => string = () => DATA,
  exclude?: string,
): RunItem[] {
  return Array.from({ length: count }, (_, i) => {
    const offset = first + i;
    const by = exclude === undefined ? {} : { exclude };
    return { event: 'm', data: data(offset), offset, tag: `t${offset}`, prevTag: `t${offset - 1}`, ...by };
  });
}

function batch(of: readonly RunItem[]): Batch {
  return new Batch(NAME, 'epochs', of);
}

/** An outbox over a link whose peer reads as it is told. */
class World {
  readonly received: ReceivedFrame[] = [];
  readonly link: TestLink;
  readonly outbox: Outbox;
  overflows = 0;

  constructor(
    readonly codec: LineCodec = new LineCodec(),
    maxBytes = MAX_BYTES,
  ) {
    this.link = new TestLink(codec, clock, { receive: (frame) => this.received.push(frame), closed: () => undefined });
    const overflow = (): void => {
      this.overflows++;
      this.outbox.clear();
    };
    this.outbox = new Outbox(turn, maxBytes, { overflow, room: () => undefined });
    this.link.connection = { drained: () => this.outbox.drained() } as Connection;
    this.outbox.attach(this.link);
  }

  /** The peer reads until nothing comes any more. */
  readAll(): ReceivedFrame[] {
    this.link.flow();
    do clock.runTurn();
    while (this.link.deliver());
    return this.received;
  }
}

function source(policy: SlowConsumerPolicy, conflationKey = (_item: RunItem): string => 'price'): Source {
  return { ...NAME, written: 0, client: 'me', policy, conflationKey, queued: undefined };
}

let clock: ManualTurnClock;
let turn: Turn;

beforeEach(() => {
  clock = new ManualTurnClock();
  turn = new Turn(clock);
});

describe('Outbox: a turn with more than a link is given at once', () => {
  it('gives a peer that reads everything, in order, whatever the policy', () => {
    for (const policy of ['disconnect', 'dropOldest', 'conflate'] as const) {
      const world = new World();
      world.outbox.publications(source(policy), batch(items(1, 100)));
      expect(world.readAll().map(({ offset }) => offset)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
      expect(world.overflows).toBe(0);
    }
  });

  it('keeps the window and the bound of a peer that does not read: dropOldest', () => {
    const world = new World();
    world.link.stall();
    world.outbox.publications(source('dropOldest'), batch(items(1, 500)));
    clock.runTurn();
    expect(world.link.bufferedBytes).toBeLessThanOrEqual(WINDOW);
    const [first, skipped, next, ...rest] = world.readAll();
    expect(first).toMatchObject({ offset: 1 });
    expect(skipped).toMatchObject({ skipped: next!.offset - 2, offset: next!.offset - 1 });
    expect(rest.at(-1)).toMatchObject({ offset: 500 });
    expect(rest.length * DATA.length).toBeLessThanOrEqual(MAX_BYTES);
    expect([world.link.peakBytes <= WINDOW, world.overflows]).toEqual([true, 0]);
  });

  it('keeps the window and the bound of a peer that does not read: disconnect', () => {
    const world = new World();
    world.link.stall();
    world.outbox.publications(source('disconnect'), batch(items(1, 500)));
    clock.runTurn();
    expect([world.link.peakBytes <= WINDOW, world.overflows]).toEqual([true, 1]);
  });

  it('keeps the newest of each key for a peer that does not read: conflate', () => {
    const world = new World();
    world.link.stall();
    const prices = source('conflate', ({ offset }) => String(offset % 3));
    world.outbox.publications(prices, batch(items(1, 500)));
    clock.runTurn();
    expect(world.readAll().map(({ offset, skipped }) => [offset, skipped])).toEqual([
      [1, undefined],
      [497, 496],
      [498, undefined],
      [499, undefined],
      [500, undefined],
    ]);
    expect([world.link.peakBytes <= WINDOW, world.overflows]).toEqual([true, 0]);
  });

  it('encodes each part once, however many get it', () => {
    const codec = new CountingCodec();
    const worlds = Array.from({ length: 10 }, () => new World(codec));
    const burst = batch(items(1, 20));
    for (const { outbox } of worlds) outbox.publications(source('disconnect'), burst);
    for (const world of worlds) expect(world.readAll()).toHaveLength(20);
    expect(codec.runs).toBe(20);
  });
});

describe('Outbox: conflation', () => {
  it('is not undone by telling the peer where it is', () => {
    const world = new World(undefined, 300_000);
    const prices = source('conflate');
    world.link.stall();
    for (let offset = 1; offset <= 50; offset++) {
      world.outbox.publications(prices, batch(items(offset, 1)));
      clock.runTurn();
      world.outbox.marker(prices, 'epochs', offset, `t${offset}`); // what the periodic check does
      clock.runTurn();
    }
    expect(world.overflows).toBe(0);
    expect(world.readAll().map(({ offset, skipped }) => [offset, skipped])).toEqual([
      [1, undefined],
      [49, 48],
      [50, undefined],
    ]);
  });

  it('goes on behind publications that are withheld from the peer, and tells of them', () => {
    const world = new World(undefined, 300_000);
    const prices = source('conflate');
    world.link.stall();
    for (let offset = 1; offset <= 50; offset++) {
      const own = offset > 2 && offset % 2 === 0;
      world.outbox.publications(prices, batch(items(offset, 1, undefined, own ? 'me' : undefined)));
      world.outbox.marker(prices, 'epochs', offset, `t${offset}`);
      clock.runTurn();
    }
    expect(world.overflows).toBe(0);
    expect(world.readAll().map(({ offset, skipped }) => [offset, skipped])).toEqual([
      [1, undefined],
      [48, 47],
      [49, undefined],
      [50, 1],
    ]);
  });

  it('writes many keys in parts, as the peer takes them', () => {
    const world = new World();
    const prices = source('conflate', ({ offset }) => String(offset % 10));
    world.link.stall();
    for (let offset = 1; offset <= 100; offset++) world.outbox.publications(prices, batch(items(offset, 1)));
    clock.runTurn();
    for (let i = 0; i < 20; i++) {
      expect(world.link.bufferedBytes).toBeLessThanOrEqual(WINDOW);
      world.link.read(WINDOW);
      clock.runTurn();
    }
    const offsets = world.readAll().flatMap(({ offset, skipped }) => (skipped === undefined ? [offset] : []));
    expect(offsets).toEqual([1, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100]);
  });

  it('gives up where there are too many keys', () => {
    const world = new World();
    const prices = source('conflate', ({ offset }) => String(offset));
    world.link.stall();
    for (let offset = 1; offset <= 30; offset++) world.outbox.publications(prices, batch(items(offset, 1)));
    clock.runTurn();
    expect(world.overflows).toBe(1);
  });
});
