import type { RecordConnection } from '../../../lib/hub/record-connection.js';
import type { TestNode } from '../../unit/transports/support/node.js';
import { post, type Waiting } from '../../support/polling-peer.js';
import { WirePeer, type Frame, type TransportUnderTest, type Wish } from './wire.js';

class PollingWirePeer extends WirePeer {
  positions: Record<string, string> = {};
  inbox = 0;
  pass = '';
  #seq = 0;
  /** One send at a time. */
  #sent: Promise<void> = Promise.resolve();
  #waiting: Waiting | undefined;
  #paused = false;
  #gone = false;
  #go: () => void = () => undefined;

  constructor(private url: string) {
    super();
  }

  send(frame: object): void {
    this.#sent = this.#sent.then(async () => {
      const body = { pass: this.pass, seq: ++this.#seq, frames: [frame] };
      const reply = await post(`${this.url}/send`, body).reply;
      for (const answer of reply.body.frames ?? []) this.received(answer);
    });
    this.#sent = this.#sent.catch(() => undefined);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#go();
  }

  break(): void {
    this.#gone = true;
    this.#waiting?.request.destroy();
  }

  leave(): void {
    this.break();
  }

  override async listens({ hub }: TestNode): Promise<void> {
    const waits = (): boolean => (hub.connections.get(this.connection) as RecordConnection)?.current !== undefined;
    while (!waits()) await new Promise(setImmediate);
  }

  override moveTo(node: TestNode): void {
    this.url = urlOf(node);
  }

  async read(): Promise<void> {
    while (!this.#gone) {
      if (this.#paused) await new Promise<void>((resolve) => (this.#go = resolve));
      const { pass, inbox, positions } = this;
      this.#waiting = post(`${this.url}/poll`, { pass, inbox, positions });
      const reply = await this.#waiting.reply.catch(() => undefined);
      if (reply === undefined || this.#gone) continue;
      const { status, body } = reply;
      if (status === 410) {
        const { code, details } = body.error;
        this.over({ told: this.told ?? details?.disconnect, wire: { status, code, told: details?.disconnect } });
        return;
      }
      if (status !== 200) {
        this.over({ told: this.told, wire: { status, code: body.error.code } });
        return;
      }
      Object.assign(this.positions, body.positions);
      this.inbox = body.inbox;
      if (body.frames.length === 0) this.sign();
      for (const frame of body.frames as Frame[]) this.received(frame);
    }
  }
}

const urlOf = ({ host }: TestNode): string => `http://${host}/realtime`;

const request = (node: TestNode, { channels = {}, client, token, headers }: Wish) =>
  post(
    `${urlOf(node)}/poll`,
    { client, positions: channels },
    { ...headers, ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }) },
  ).reply;

/** One request after another. */
export const longPolling: TransportUnderTest = {
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
    drain: 'answers the request',
    end: (told) => ({ status: 410, code: 'gone', told }),
  },

  async open(node, wish = {}) {
    const { status, body } = await request(node, wish);
    if (status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
    const peer = new PollingWirePeer(urlOf(node));
    peer.pass = body.pass;
    peer.positions = body.positions;
    const [{ data, ...hello }, ...more] = body.frames;
    if (more.length > 0) throw new Error('More than one frame makes a connection');
    const { channels, ...told } = data;
    peer.hello = { ...hello, data: told };
    peer.channels = channels;
    void peer.read();
    return peer;
  },

  async refused(node, wish = {}) {
    const { status, body, headers } = await request(node, wish);
    return { status, code: body.error.code, details: body.error.details, retryAfter: headers['retry-after'] };
  },
};
