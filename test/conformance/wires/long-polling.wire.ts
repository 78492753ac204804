import type { RecordConnection } from '../../../lib/hub/record-connection.js';
import { post, type Reply, type Waiting } from '../../support/polling-peer.js';
import type { TestNode } from '../../unit/transports/support/node.js';
import { headersOf, RecordPeer, urlOf } from './record.peer.js';
import type { Frame, TransportUnderTest, Wish } from './wire.js';

class PollingWirePeer extends RecordPeer {
  #waiting: Waiting | undefined;

  break(): void {
    this.gone = true;
    this.#waiting?.request.destroy();
  }

  override async listens({ hub }: TestNode): Promise<void> {
    const waits = (): boolean =>
      (hub.connections.get(this.connection) as RecordConnection | undefined)?.current !== undefined;
    while (!waits()) await new Promise(setImmediate);
  }

  async read(): Promise<void> {
    while (!this.gone) {
      await this.reads();
      const { pass, inbox, positions } = this;
      this.#waiting = post(`${this.url}/poll`, { pass, inbox, positions });
      const reply = await this.#waiting.reply.catch(() => undefined);
      if (reply === undefined || this.gone) continue;
      const { status, body } = reply;
      if (status !== 200) {
        this.refused(status, body.error);
        return;
      }
      Object.assign(this.positions, body.positions);
      this.inbox = body.inbox;
      if (body.frames.length === 0) this.sign();
      for (const frame of body.frames as Frame[]) this.received(frame);
    }
  }
}

function request(node: TestNode, wish: Wish): Promise<Reply> {
  const { client, channels = {} } = wish;
  return post(`${urlOf(node)}/poll`, { client, positions: channels }, headersOf(wish)).reply;
}

/** One request after another. */
export const longPolling: TransportUnderTest = {
  title: 'long polling',
  name: 'long-polling',
  binding: {
    up: 'requests',
    refusedChannel: 'alone',
    refusedByHook: { status: 403 },
    withoutToken: 401,
    signOfLife: 'empty answer',
    slowBy: 'inbox',
    withoutHistory: 'while it waits',
    goodbye: 'silence',
    drain: 'the connection goes on elsewhere',
    end: (told) => ({ status: 410, code: 'gone', told }),
  },

  async open(node, wish = {}) {
    const { status, body } = await request(node, wish);
    if (status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
    const [hello, ...more] = body.frames;
    if (more.length > 0) throw new Error('More than one frame makes a connection');
    const peer = new PollingWirePeer(node);
    peer.begin(hello);
    peer.pass = body.pass;
    peer.positions = body.positions;
    void peer.read();
    return peer;
  },

  async refused(node, wish = {}) {
    const { status, body, headers } = await request(node, wish);
    return { status, code: body.error.code, details: body.error.details, retryAfter: headers['retry-after'] };
  },
};
