import { patternMistake, resolveDefinition, Declarations, type ChannelOptions } from './definition.js';
import { anonymous, type Authenticator } from './ports/authenticator.js';
import type { Broker } from './ports/broker.js';
import { systemClock, type Clock } from './ports/clock.js';
import type { Tracing } from './ports/tracing.js';
import type { Log } from './log.js';

/** Bounds of what peers may do; each is an option, `false` turns it off. */
export interface LimitOptions {
  /** The largest frame a peer may send, in bytes: past it the connection is closed with 1009. @defaultValue 65_536 */
  maxFrameBytes?: number | false;
  /**
   * Frames that a peer may send per second, of twice as many at once; counted before they are read. Past it a frame is
   * answered `rate_limited` with `retryAfterMs`, and after as many such answers within a second the connection is closed
   * with 4529. @defaultValue 100
   */
  framesPerSecond?: number | false;
  /**
   * Frames of a connection that are served at once, each from its dispatch until its answer has ended: a stream counts
   * while it runs, and so does a request whose handler never answers, until the peer cancels it. Past it frames are
   * answered `rate_limited` with `retryAfterMs`; `$cancel` and one `$auth` are served still. @defaultValue 256
   */
  maxFramesInFlight?: number | false;
  /** Channels per connection: past it subscriptions are answered `too_many_channels`. @defaultValue 128 */
  maxChannels?: number | false;
  /** What may wait for a peer that reads too slowly, in bytes: past it see `slowConsumer`. @defaultValue 1_048_576 */
  maxOutboxBytes?: number | false;
  /**
   * The data of a publication that travels with the others, in bytes. Larger data stays in the channel's history, and
   * peers get a reference, `{ "$payload": { since, bytes } }`, by which they fetch it with a request of its own: see
   * `GET {path}/payload`. In channels without history, or with `conflateBy`, and in answers to `$history`, all data
   * travels. @defaultValue 65_536
   */
  inlineBytes?: number | false;
  /** Connections of a node, handshakes among them: past it they are refused with `too_many_connections`. @defaultValue false */
  maxConnections?: number | false;
  /**
   * Connections of an address, over all nodes; of IPv6 of a network of 64 bits. Handshakes that are under way count too.
   * Past it they are refused with `too_many_connections`. @defaultValue 1_024
   */
  connectionsPerAddress?: number | false;
  /** Connections of a user, over all nodes: past it they are refused with `too_many_connections`. @defaultValue 64 */
  connectionsPerUser?: number | false;
  /**
   * Handshakes of an address per second and node, failed ones too, and twice as many at once: past it they are refused
   * with `rate_limited`. @defaultValue 100
   */
  handshakesPerAddress?: number | false;
  /**
   * Handshakes per second and node, and twice as many at once, so that a storm of peers that come back does not take the
   * node down: past it they are refused with `rate_limited`, with the time to wait. @defaultValue 1_000
   */
  handshakesPerSecond?: number | false;
  /** How long a peer may take to send its token in a frame, ms: past it 4401. @defaultValue 10_000 */
  unauthenticatedMs?: number | false;
}

/** How a node goes away, ms. */
export interface DrainOptions {
  /**
   * How long the node goes on letting peers in once it has said that it is not ready: until load balancers have seen it.
   * @defaultValue 0
   */
  readinessMs?: number;
  /** Over which time its peers are told to come back, each at another time, so that the other nodes can take them. @defaultValue 10_000 */
  windowMs?: number;
  /**
   * How long it waits for peers to go and for the disconnection hooks of gateways and channels; what is left then is cut
   * off. @defaultValue 10_000
   */
  timeoutMs?: number;
}

/** What the hub can be told. */
export interface HubOptions {
  broker: Broker;
  /** Who peers are. @defaultValue anonymous() */
  auth?: Authenticator;
  /** Channels without a class. */
  channels?: Record<string, ChannelOptions>;
  limits?: LimitOptions;
  /** How often peers are asked for a sign of life, and how long they may take; past it 4507. @defaultValue 25_000, 8_000 or `intervalMs`, if that is less */
  heartbeat?: { intervalMs?: number; timeoutMs?: number };
  /** How long a member whose link was lost stays a member, ms. @defaultValue 10_000 */
  presence?: { graceMs?: number };
  /** How the hub goes away. @defaultValue `{ readinessMs: 0, windowMs: 10_000, timeoutMs: 10_000 }` */
  drain?: DrainOptions;
  /** How often positions are compared with the broker's, ms. @defaultValue 10_000 */
  checkIntervalMs?: number;
  /** Who traces what the node does. @defaultValue nobody */
  tracing?: Tracing;
  log: Log;
  clock?: Clock;
}

/** The options, filled in. `Infinity` is "off". */
export interface HubSettings {
  readonly broker: Broker;
  readonly auth: Authenticator;
  readonly declarations: Declarations;
  readonly limits: { readonly [K in keyof LimitOptions]-?: number };
  readonly heartbeat: { readonly intervalMs: number; readonly timeoutMs: number };
  readonly graceMs: number;
  readonly drain: Readonly<Required<DrainOptions>>;
  readonly checkIntervalMs: number;
  readonly tracing: Tracing | undefined;
  readonly log: Log;
  readonly clock: Clock;
}

/** A mistake in the options: where, what was expected, what came. */
export interface Mistake {
  readonly path: string;
  readonly message: string;
}

/** The longest delay that a timer of Node.js takes. */
const MAX_DELAY_MS = 2_147_483_647;
/** Each limit: its least and greatest value, and the preset. */
const LIMITS = {
  maxFrameBytes: [128, 2 ** 30, 64 * 1024],
  framesPerSecond: [1, 1_000_000, 100],
  maxFramesInFlight: [1, 2 ** 20, 256],
  maxChannels: [1, 2 ** 20, 128],
  maxOutboxBytes: [1024, 2 ** 31, 1024 * 1024],
  inlineBytes: [1024, 2 ** 30, 64 * 1024],
  maxConnections: [1, 2 ** 30, false],
  connectionsPerAddress: [1, 2 ** 30, 1_024],
  connectionsPerUser: [1, 2 ** 30, 64],
  handshakesPerAddress: [1, 1_000_000, 100],
  handshakesPerSecond: [1, 1_000_000, 1_000],
  unauthenticatedMs: [1, MAX_DELAY_MS, 10_000],
} as const satisfies { readonly [K in keyof LimitOptions]-?: readonly [number, number, number | false] };
const LIMIT_NAMES = Object.keys(LIMITS) as (keyof LimitOptions)[];
const FALSE_OR = { offAllowed: true };

/** Checks what can be checked of the hub's options; finds all mistakes at once. */
export function findMistakes(options: Omit<HubOptions, 'broker' | 'log'>): Mistake[] {
  const mistakes: Mistake[] = [];
  const report = (path: string, message: string): void => void mistakes.push({ path, message });
  const { limits = {}, heartbeat = {}, presence = {}, drain = {}, channels = {} } = options;
  const number = (path: string, value: unknown, min: number, max: number, { offAllowed = false } = {}): void => {
    if (value === undefined || (offAllowed && value === false)) return;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return;
    report(path, `expected an integer from ${min} to ${max}${offAllowed ? ' or false' : ''}, got ${show(value)}`);
  };
  if (object('limits', limits, LIMIT_NAMES, report)) {
    for (const name of LIMIT_NAMES) number(`limits.${name}`, limits[name], LIMITS[name][0], LIMITS[name][1], FALSE_OR);
  }
  if (object('heartbeat', heartbeat, ['intervalMs', 'timeoutMs'], report)) {
    number('heartbeat.intervalMs', heartbeat.intervalMs, 20, MAX_DELAY_MS);
    number('heartbeat.timeoutMs', heartbeat.timeoutMs, 10, MAX_DELAY_MS);
    const { intervalMs = 25_000, timeoutMs } = heartbeat;
    if (typeof intervalMs === 'number' && timeoutMs !== undefined && timeoutMs > intervalMs)
      report('heartbeat.timeoutMs', `expected at most heartbeat.intervalMs (${show(intervalMs)})`);
  }
  if (object('presence', presence, ['graceMs'], report)) number('presence.graceMs', presence.graceMs, 0, MAX_DELAY_MS);
  if (object('drain', drain, ['readinessMs', 'windowMs', 'timeoutMs'], report)) {
    number('drain.readinessMs', drain.readinessMs, 0, MAX_DELAY_MS);
    number('drain.windowMs', drain.windowMs, 0, MAX_DELAY_MS);
    number('drain.timeoutMs', drain.timeoutMs, 0, MAX_DELAY_MS);
  }
  number('checkIntervalMs', options.checkIntervalMs, 10, MAX_DELAY_MS);
  if (!object('channels', channels, undefined, report)) return mistakes;
  const declarations = new Declarations();
  for (const [pattern, channel] of Object.entries(channels)) {
    const path = `channels['${pattern}']`;
    const wrong = patternMistake(pattern);
    if (wrong !== undefined) {
      report(path, `expected a channel pattern: ${wrong}`);
      continue;
    }
    const found = findChannelMistakes(path, channel);
    mistakes.push(...found);
    if (found.length > 0) continue;
    const tie = declarations.declare(resolveDefinition(pattern, channel));
    if (tie !== undefined) report(path, `matches the same channels as '${tie}', and neither is more literal`);
  }
  return mistakes;
}

/** Checks the options of one pattern. */
export function findChannelMistakes(path: string, options: ChannelOptions): Mistake[] {
  const mistakes: Mistake[] = [];
  const report = (at: string, message: string): void => void mistakes.push({ path: at, message });
  if (!object(path, options, ['history', 'presence', 'slowConsumer', 'subscribe', 'publish'], report)) return mistakes;
  const { history, slowConsumer } = options;
  if (history !== undefined && history !== false && object(`${path}.history`, history, ['size', 'ttlMs'], report)) {
    for (const [name, max] of [
      ['size', 1_000_000],
      ['ttlMs', MAX_DELAY_MS],
    ] as const) {
      const value = history[name];
      if (Number.isInteger(value) && value >= 1 && value <= max) continue;
      report(`${path}.history.${name}`, `expected an integer from 1 to ${max}, got ${show(value)}`);
    }
  }
  for (const name of ['presence', 'subscribe', 'publish'] as const) {
    const value = options[name];
    if (value !== undefined && typeof value !== 'boolean')
      report(`${path}.${name}`, `expected a boolean, got ${show(value)}`);
  }
  const known = slowConsumer === undefined || slowConsumer === 'disconnect' || slowConsumer === 'dropOldest';
  if (!known && typeof (slowConsumer as { conflateBy?: unknown } | null)?.conflateBy !== 'function') {
    report(`${path}.slowConsumer`, `expected 'disconnect', 'dropOldest' or { conflateBy }, got ${show(slowConsumer)}`);
  }
  return mistakes;
}

/** Fills in the options, which were checked. */
export function resolveSettings(options: HubOptions): HubSettings {
  const { limits = {}, heartbeat = {}, presence = {}, drain = {} } = options;
  const { intervalMs = 25_000 } = heartbeat;
  const declarations = new Declarations();
  for (const [pattern, channel] of Object.entries(options.channels ?? {})) {
    declarations.declare(resolveDefinition(pattern, channel));
  }
  return {
    broker: options.broker,
    auth: options.auth ?? anonymous(),
    declarations,
    limits: resolveLimits(limits),
    heartbeat: { intervalMs, timeoutMs: heartbeat.timeoutMs ?? Math.min(8_000, intervalMs) },
    graceMs: presence.graceMs ?? 10_000,
    drain: {
      readinessMs: drain.readinessMs ?? 0,
      windowMs: drain.windowMs ?? 10_000,
      timeoutMs: drain.timeoutMs ?? 10_000,
    },
    checkIntervalMs: options.checkIntervalMs ?? 10_000,
    tracing: options.tracing,
    log: options.log,
    clock: options.clock ?? systemClock,
  };
}

/** Reports what is no object, and properties that mean nothing. */
export function object(
  path: string,
  value: unknown,
  names: readonly string[] | undefined,
  report: (path: string, message: string) => void,
): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    report(path, `expected an object, got ${show(value)}`);
    return false;
  }
  for (const name of names === undefined ? [] : Object.keys(value)) {
    if (!names!.includes(name)) report(`${path}.${name}`, `is no option; known are ${names!.join(', ')}`);
  }
  return true;
}

/** A value as a mistake shows it: its kind, and numbers, booleans and short text as they are. */
export function show(value: unknown): string {
  if (value === null || typeof value === 'number' || typeof value === 'boolean' || value === undefined)
    return String(value);
  if (typeof value === 'string') return value.length > 40 ? 'a long text' : JSON.stringify(value);
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

/** `Infinity` is "off". */
function resolveLimits(limits: LimitOptions): HubSettings['limits'] {
  const resolved = LIMIT_NAMES.map((name) => {
    const value = limits[name] ?? LIMITS[name][2];
    return [name, value === false ? Infinity : value];
  });
  return Object.fromEntries(resolved) as HubSettings['limits'];
}
