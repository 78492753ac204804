import { RealtimeClient, type ClientOptions } from '../../../lib/client/index.js';
import type { ClientLink, ClientTransport, LinkContext, LinkEnd } from '../../../lib/client/transport.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

export interface Sent {
  id?: number;
  event: string;
  data?: any;
}

/** A link whose other end is the test. */
export class FakeLink implements ClientLink {
  readonly sent: Sent[] = [];
  /** How the client closed it: with a goodbye or without. */
  closed: boolean | undefined;

  constructor(
    readonly context: LinkContext,
    readonly openedAt: number,
  ) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Sent);
  }

  close(goodbye: boolean): void {
    this.closed ??= goodbye;
  }

  /** The `$resume` that opened the link. */
  get resume(): Sent {
    return this.sent[0]!;
  }

  last(event: string): Sent {
    const found = this.sent.findLast((frame) => frame.event === event);
    if (!found) throw new Error(`No ${event} was sent`);
    return found;
  }

  count(event: string): number {
    return this.sent.filter((frame) => frame.event === event).length;
  }

  frame(frame: Record<string, unknown>): void {
    this.context.onFrame(frame);
  }

  connected(data: Record<string, unknown> = {}): void {
    const defaults = { connection: 'c1', heartbeatMs: 25_000, timeoutMs: 8_000, maxFrameBytes: 65_536 };
    this.frame({ event: '$connected', data: { ...defaults, ...data } });
  }

  /** Answers the last request of this event. */
  answer(event: string, data: unknown): void {
    this.frame({ id: this.last(event).id, data });
  }

  refuse(event: string, error: Record<string, unknown>): void {
    this.frame({ id: this.last(event).id, error: { message: 'refused', ...error } });
  }

  /** Opens the link: `$connected`, and the answer to `$resume`. */
  open(channels: Record<string, unknown> = {}): this {
    this.connected();
    this.answer('$resume', { connection: 'c1', channels });
    return this;
  }

  publication(channel: string, offset: number, data: unknown = offset, event = 'message'): void {
    this.frame({ channel, event, data, offset, tag: `t${offset}` });
  }

  end(code = 1006, reason = '', more: Partial<LinkEnd> = {}): void {
    this.context.onEnd({ code, reason, ...more });
  }
}

export class FakeTransport implements ClientTransport {
  readonly links: FakeLink[] = [];
  /** Called with each new link, e.g. to open or end it. */
  onOpen: (link: FakeLink) => void = () => {};

  constructor(readonly name = 'fake') {}

  open(context: LinkContext): ClientLink {
    const link = new FakeLink(context, context.clock.now());
    this.links.push(link);
    queueMicrotask(() => this.onOpen(link));
    return link;
  }

  get link(): FakeLink {
    const link = this.links.at(-1);
    if (!link) throw new Error('No link was opened');
    return link;
  }
}

/** Random numbers from 0 to 1, the same in every run (a linear congruential generator). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
}

export interface Rig {
  clock: ManualClock;
  transport: FakeTransport;
  client: RealtimeClient;
  errors: Error[];
  states: string[];
  wake: () => void;
  wakeUpListeners: () => number;
}

/** A client over a fake transport, on a manual clock. */
export function makeRig(options: ClientOptions = {}): Rig {
  const clock = new ManualClock(1_700_000_000_000);
  const transport = new FakeTransport();
  const wakeUps = new Set<() => void>();
  const client = new RealtimeClient('https://example.com/realtime', {
    clock,
    random: seededRandom(1),
    transports: [transport],
    wakeUps: (fn) => {
      wakeUps.add(fn);
      return () => wakeUps.delete(fn);
    },
    ...options,
  });
  const errors: Error[] = [];
  const states: string[] = [];
  client.on('error', (error) => errors.push(error));
  client.on('state', (state) => states.push(state));
  return {
    clock,
    transport,
    client,
    errors,
    states,
    wake: () => [...wakeUps].forEach((fn) => fn()),
    wakeUpListeners: () => wakeUps.size,
  };
}

/** A rig whose first link is open, with a channel if one is named. */
export async function openRig(options: ClientOptions = {}, channel?: string): Promise<Rig & { link: FakeLink }> {
  const rig = makeRig(options);
  if (channel === undefined) void rig.client.connect();
  else void rig.client.channel(channel).subscribe();
  await rig.clock.settle();
  const transport = (options.transports?.[0] as FakeTransport | undefined) ?? rig.transport;
  const link = transport.link.open(channel === undefined ? {} : { [channel]: answer(1) });
  await rig.clock.settle();
  return { ...rig, link };
}

export const position = (offset: number, epoch = 'epochA'): string => `${epoch}-${offset}-t${offset}`;

/** An answer to `$subscribe`. */
export const answer = (offset: number, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  position: position(offset),
  size: 100,
  windowMs: 300_000,
  ...more,
});
