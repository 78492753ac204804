import { ask } from '../../unit/transports/support/wire.js';
import { EventStream } from '../../unit/transports/support/event-stream.js';
import type { TestNode } from '../../unit/transports/support/node.js';
import { formatCursor } from '../../../lib/protocol/cursor.js';
import { headersOf } from './record.peer.js';
import { WirePeer, type TransportUnderTest, type Wish } from './wire.js';

/** A stream has a channel at least. */
const LOBBY: Record<string, string | null> = { 'chat.lobby': null };

class SsePeer extends WirePeer {
  constructor(readonly stream: EventStream) {
    super();
    void this.#read();
  }

  send(): never {
    throw new Error('A stream has no way up');
  }

  pause(): void {
    this.stream.response.pause();
  }

  resume(): void {
    this.stream.response.resume();
  }

  break(): void {
    this.stream.close();
  }

  leave(): void {
    this.stream.close();
  }

  async #read(): Promise<void> {
    const { stream } = this;
    let events = 0;
    let comments = 0;
    const isNews = (): boolean => stream.over || stream.events.length > events || stream.comments.length > comments;
    for (;;) {
      await stream.until(isNews).catch(() => undefined);
      while (events < stream.events.length) this.received(stream.events[events++]!.data);
      while (comments < stream.comments.length && ++comments) this.sign();
      if (!stream.over) continue;
      this.over({ told: this.told, wire: stream.response.complete ? 'ended' : 'cut' });
      return;
    }
  }
}

function requestOf(wish: Wish): {
  path: string;
  headers: Record<string, string>;
} {
  const { channels = LOBBY, client } = wish;
  const names = Object.keys(channels);
  const items = names.flatMap((name, slot) => {
    const position = channels[name];
    return typeof position === 'string' ? [[slot, position] as const] : [];
  });
  const query = new URLSearchParams({ channels: names.join(','), format: 'frames' });
  if (client !== undefined) query.set('client', client);
  return {
    path: `/realtime/sse?${query.toString()}`,
    headers: {
      ...headersOf(wish),
      ...(items.length > 0 ? { 'Last-Event-ID': formatCursor(items) } : {}),
    },
  };
}

async function open(node: TestNode, wish: Wish = {}): Promise<SsePeer> {
  const { path, headers } = requestOf(wish);
  const peer = new SsePeer(await EventStream.open(node.port, path, headers));
  const { data, ...hello } = await peer.next();
  const { cursor: _cursor, channels, ...told } = data;
  peer.hello = { ...hello, data: told };
  peer.channels = channels;
  return peer;
}

/** A stream of frames; its request says what the peer wants. */
export const sse: TransportUnderTest = {
  title: 'sse',
  name: 'sse',
  binding: {
    up: 'none',
    refusedChannel: 'the peer',
    refusedByHook: { status: 403 },
    withoutToken: 401,
    signOfLife: 'comment',
    slowBy: 'publications',
    withoutHistory: 'always',
    goodbye: { code: 1006, reason: '' },
    drain: 'the connection ends',
    end: () => 'ended',
  },

  open,

  async refused(node, wish = {}) {
    const { path, headers } = requestOf(wish);
    // One that takes more than a stream: an EventSource is not told all statuses (7.12).
    const answer = await ask(node.port, path, { headers: { Accept: '*/*', ...headers } });
    const { code, details } = answer.json.error;
    return { status: answer.status, code, details, retryAfter: answer.headers['retry-after'] };
  },
};
