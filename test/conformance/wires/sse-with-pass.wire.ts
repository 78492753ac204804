import { post } from '../../support/polling-peer.js';
import { EventStream } from '../../unit/transports/support/event-stream.js';
import type { TestNode } from '../../unit/transports/support/node.js';
import { headersOf, RecordPeer, urlOf } from './record.peer.js';
import type { Frame, TransportUnderTest, Wish } from './wire.js';

class StreamingPeer extends RecordPeer {
  #stream: EventStream;

  constructor(node: TestNode, stream: EventStream) {
    super(node);
    this.#stream = stream;
  }

  override pause(): void {
    super.pause();
    this.#stream.response.pause();
  }

  override resume(): void {
    super.resume();
    this.#stream.response.resume();
  }

  break(): void {
    this.gone = true;
    this.#stream.close();
  }

  /** Reads streams, one behind another, until the connection is over. */
  async read(): Promise<void> {
    let first = true;
    for (;;) {
      await this.#readThrough(first);
      first = false;
      if (this.gone) return;
      if (this.told !== undefined) {
        this.over({ told: this.told, wire: this.#stream.response.complete ? 'ended' : 'cut' });
        return;
      }
      await this.reads();
      const { pass, inbox, positions } = this;
      const { port } = new URL(this.url);
      this.#stream = await EventStream.open(Number(port), '/realtime/sse', {}, { pass, inbox, positions });
      const status = this.#stream.response.statusCode!;
      if (status === 200) continue;
      this.refused(status, JSON.parse(await this.#stream.text()).error);
      return;
    }
  }

  async #readThrough(isFirst: boolean): Promise<void> {
    const stream = this.#stream;
    let events = 0;
    let comments = 0;
    const isNews = (): boolean => stream.over || stream.events.length > events || stream.comments.length > comments;
    while (!stream.over || isNewer(stream, events)) {
      await stream.until(isNews).catch(() => undefined);
      for (; events < stream.events.length; events++) {
        const { data, id } = stream.events[events]!;
        if (events === 0) this.#greeted(data, isFirst);
        else this.#take(data, id);
      }
      while (comments < stream.comments.length && ++comments) this.sign();
    }
  }

  #greeted(frame: Frame, isFirst: boolean): void {
    if (!isFirst) return;
    const { pass, ...data } = frame.data;
    this.pass = pass;
    this.begin({ ...frame, data });
    for (const [channel, { position }] of Object.entries(this.channels)) {
      if (typeof position === 'string') this.positions[channel] = position;
    }
    this.opened();
  }

  #take(frame: Frame, id: string): void {
    if (id !== '') this.inbox = Number(id);
    // A channel that it entered later goes on from where its subscription began.
    if (frame.offset !== undefined && frame.channel in this.channels) this.positions[frame.channel] = this.after(frame);
    this.received(frame);
  }

  /** Called when the first frame has come. */
  opened: () => void = () => undefined;
}

function isNewer(stream: EventStream, events: number): boolean {
  return stream.events.length > events;
}

/** A stream by POST, whose connection has a record; what the peer sends are requests. */
export const sseWithPass: TransportUnderTest = {
  title: 'sse with a pass',
  name: 'sse',
  binding: {
    up: 'requests',
    refusedChannel: 'alone',
    refusedByHook: { status: 403 },
    withoutToken: 401,
    signOfLife: 'comment',
    slowBy: 'inbox',
    withoutHistory: 'always',
    goodbye: 'silence',
    drain: 'the connection goes on elsewhere',
    end: () => 'ended',
  },

  async open(node, wish = {}) {
    const { client, channels = {} } = wish;
    const body = { client, positions: channels };
    const stream = await EventStream.open(node.port, '/realtime/sse', headersOf(wish), body);
    if (stream.response.statusCode !== 200) throw new Error(await stream.text());
    const peer = new StreamingPeer(node, stream);
    const opened = new Promise<void>((resolve) => (peer.opened = resolve));
    void peer.read();
    await opened;
    return peer;
  },

  async refused(node: TestNode, wish: Wish = {}) {
    const { client, channels = {} } = wish;
    // One that takes more than a stream is told all statuses (7.12).
    const headers = { Accept: '*/*', ...headersOf(wish) };
    const {
      status,
      body,
      headers: told,
    } = await post(`${urlOf(node)}/sse`, { client, positions: channels }, headers).reply;
    return { status, code: body.error.code, details: body.error.details, retryAfter: told['retry-after'] };
  },
};
