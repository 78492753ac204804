import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { TestNode } from '../../unit/transports/support/node.js';
import { WirePeer, type Frame, type Refusal, type TransportUnderTest, type Wish } from './wire.js';

class WebSocketPeer extends WirePeer {
  constructor(readonly socket: WebSocket) {
    super();
    socket.on('message', (bytes: Buffer) => this.#take(JSON.parse(bytes.toString())));
    socket.on('ping', () => {
      this.sign();
      if (!this.silent) socket.pong();
    });
    socket.once('close', (code) => this.over({ told: this.told, wire: code }));
  }

  send(frame: object): void {
    this.socket.send(JSON.stringify(frame));
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  break(): void {
    this.socket.terminate();
  }

  leave(): void {
    this.socket.close(4000, 'bye');
  }

  #take(frame: Frame): void {
    if (frame.event !== '$ping') {
      this.received(frame);
      return;
    }
    this.sign();
    if (!this.silent) this.send({ event: '$pong' });
  }
}

function dial(node: TestNode, { token, headers }: Wish): WebSocket {
  const protocols = token === undefined ? [] : ['bearer', token];
  return new WebSocket(`ws://${node.host}/realtime`, protocols, { autoPong: false, ...(headers ? { headers } : {}) });
}

/** Upgrades, and then says what it wants. */
export const websocket: TransportUnderTest = {
  title: 'websocket',
  name: 'websocket',
  binding: {
    up: 'frames',
    refusedChannel: 'alone',
    refusedByHook: { status: 101, close: 4403 },
    withoutToken: 'awaited',
    signOfLife: 'question',
    slowBy: 'publications',
    withoutHistory: 'always',
    goodbye: { code: 4000, reason: 'bye' },
    drain: 'the connection ends',
    end: ({ code }) => code,
  },

  async open(node, wish = {}) {
    const peer = new WebSocketPeer(dial(node, wish));
    await once(peer.socket, 'open');
    const { client = 'somebody', channels = {}, laterToken: token } = wish;
    const isBare = wish.client === undefined && wish.channels === undefined && token === undefined;
    const answer = isBare ? undefined : peer.ask('$resume', { client, channels, token }, 'resume');
    peer.hello = await peer.next();
    if (answer !== undefined) peer.channels = (await answer).data.channels;
    return peer;
  },

  async refused(node, wish = {}) {
    const socket = dial(node, wish);
    const peer = new WebSocketPeer(socket);
    socket.on('error', () => undefined);
    const refused = once(socket, 'unexpected-response').then(async ([, response]): Promise<Refusal> => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8')) text += String(chunk);
      const { code, details } = JSON.parse(text).error;
      return { status: response.statusCode, code, details, retryAfter: response.headers['retry-after'] };
    });
    const opened = once(socket, 'open').then(async (): Promise<Refusal> => {
      const { told, wire } = await peer.ended;
      return { status: 101, code: told!.reason, close: wire as number };
    });
    for (const outcome of [refused, opened]) outcome.catch(() => undefined);
    return Promise.race([refused, opened]);
  },
};
