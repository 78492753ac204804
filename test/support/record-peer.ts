import type { IncomingMessage } from 'node:http';
import type { Connection } from '../../lib/hub/connection.js';
import type { UserIdentity } from '../../lib/hub/identity.js';
import type { PollAnswer, ResumedConnection } from '../../lib/hub/ports/transport.js';
import type { Fleet } from './fleet.js';
import { LineCodec, TestLink, type ReceivedFrame } from './test-link.js';

const SECOND = 1_000;
/** How its requests arrive. */
export const ARRIVED = {
  endpoint: '0:/',
  request: { rawHeaders: [] } as unknown as IncomingMessage,
  ip: '127.0.0.1',
  query: {},
  params: {},
};

/** A peer with a record: what its requests would do, at whatever node it is told. */
export class RecordPeer {
  inbox = 0;
  positions = new Map<string, string>();
  seq = 0;
  /** What streams told, each frame of the inbox once. */
  readonly frames: ReceivedFrame[] = [];

  private constructor(
    private readonly fleet: Fleet,
    readonly id: string,
    readonly pass: string,
  ) {}

  static async connect(fleet: Fleet, node = 0, user?: UserIdentity, channels: string[] = []): Promise<RecordPeer> {
    const { records } = fleet.hubs[node]!;
    const connection = fleet.hubs[node]!.arrive({
      ...ARRIVED,
      transport: 'long-polling',
      user,
      awaitsToken: false,
      recorded: true,
    });
    const established = records.establish(connection, {
      client: 'tab',
      channels: new Map(channels.map((channel) => [channel, undefined])),
    });
    await fleet.settle();
    const { pass, channels: answers } = await established;
    const peer = new RecordPeer(fleet, connection.id, pass);
    for (const [channel, answer] of Object.entries(answers)) {
      if (!('error' in answer)) peer.positions.set(channel, answer.position);
    }
    return peer;
  }

  at(node: number): Promise<ResumedConnection> {
    return this.fleet.hubs[node]!.records.resume(this.pass, ARRIVED);
  }

  /** Begins to poll at a node. */
  async begin(node: number): Promise<{ answer: Promise<PollAnswer> }> {
    const connection = await this.at(node);
    const answer = connection.poll({
      inbox: this.inbox,
      positionOf: (channel) => this.positions.get(channel),
      holdMs: 25 * SECOND,
      onGone: () => undefined,
    });
    return { answer };
  }

  /** Polls at a node, for 100 ms if there is nothing. */
  async poll(node: number): Promise<any[]> {
    const connection = await this.at(node);
    const answering = connection.poll({
      inbox: this.inbox,
      positionOf: (channel) => this.positions.get(channel),
      holdMs: 100,
      onGone: () => undefined,
    });
    answering.catch(() => undefined);
    await this.fleet.pass(200, 100);
    const answer = await answering;
    this.inbox = answer.inbox;
    for (const [channel, { position }] of answer.positions) this.positions.set(channel, position);
    return JSON.parse(`[${answer.frames.map((frame) => frame.toString()).join(',')}]`) as any[];
  }

  /** Begins a stream at a node; what it tells is in `frames`. */
  async stream(node: number): Promise<TestLink> {
    const connection = await this.at(node);
    const stream = connection.stream();
    const { inbox, positions } = this;
    const link = new TestLink(new LineCodec(), this.fleet.clock, {
      receive: (frame) => this.#take(frame),
      closed: () => undefined,
    });
    link.connection = stream as unknown as Connection; // of which it uses what streams have too
    this.fleet.watch(link);
    await this.fleet.settled(
      stream.start(link, {
        inbox,
        positionOf: (channel) => positions.get(channel),
        begin: ({ connection: id }) =>
          link.write([link.codec.frame(JSON.stringify({ event: '$connected', data: id }))]),
      }),
    );
    return link;
  }

  #take(frame: ReceivedFrame): void {
    const { inbox, channel, event, offset, tag, data } = frame;
    if (typeof inbox === 'number') {
      if (inbox <= this.inbox) return;
      this.inbox = inbox;
    }
    const epoch = this.positions.get(channel as string)?.split('-')[0];
    if (offset !== undefined && epoch !== undefined) this.positions.set(channel as string, `${epoch}-${offset}-${tag}`);
    if (event === '$lost') this.positions.set(channel as string, data.position as string);
    this.frames.push(frame);
  }

  /** Sends frames to a node; the answers come when they do. */
  async send(node: number, seq: number, ...frames: object[]): Promise<any[]> {
    const connection = await this.at(node);
    const { answers } = await connection.sendFrames(seq, frames);
    return JSON.parse(answers) as any[];
  }
}
