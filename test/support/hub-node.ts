import type { IncomingMessage } from 'node:http';
import { Hub } from '../../lib/hub/hub.js';
import { UserIdentity } from '../../lib/hub/identity.js';
import type { Broker } from '../../lib/hub/ports/broker.js';
import { systemClock } from '../../lib/hub/ports/clock.js';
import { resolveSettings } from '../../lib/hub/settings.js';
import { openApplication } from './fleet.js';
import { until } from './redis-server.js';
import { LineCodec, TestLink, type ReceivedFrame } from './test-link.js';

/** A hub on a real broker and the real clock, with peers in this process. */
export class HubNode {
  private constructor(readonly hub: Hub) {}

  static async open(broker: Broker): Promise<HubNode> {
    const log = { warn: () => undefined, error: () => undefined };
    const hub = new Hub(resolveSettings({ broker, log, checkIntervalMs: 1_000 }), openApplication);
    await hub.open();
    await hub.accept();
    return new HubNode(hub);
  }

  /** A connection of a user, open; what it gets is kept. */
  async connect(userId: string, claims: Record<string, unknown> = {}): Promise<HubPeer> {
    const peer = new HubPeer();
    const link = new TestLink(new LineCodec(), systemClock, peer);
    link.connection = this.hub.arrive({
      endpoint: '0:/',
      transport: 'test',
      request: { rawHeaders: [] } as unknown as IncomingMessage,
      ip: '127.0.0.1',
      query: {},
      params: {},
      user: new UserIdentity(userId, claims),
      awaitsToken: false,
    });
    link.connection.attach(link);
    peer.link = link;
    await peer.until(() => peer.frames.length > 0 || peer.close !== undefined, 'the greeting');
    return peer;
  }
}

/** A peer of a {@link HubNode}. */
export class HubPeer {
  readonly frames: ReceivedFrame[] = [];
  close: [code: number, reason: string] | undefined;
  link!: TestLink;

  receive(frame: ReceivedFrame): void {
    this.frames.push(frame);
  }

  closed(code: number, reason: string): void {
    this.close = [code, reason];
  }

  /** The data of the events of a name, in order. */
  told(event: string): unknown[] {
    return this.frames.filter((frame) => frame.event === event).map((frame) => frame.data as unknown);
  }

  /** Reads until something holds. */
  until(holds: () => boolean, what: string): Promise<void> {
    return until(() => {
      this.link.deliver();
      return holds();
    }, what);
  }
}
