import type { CanActivate, Type } from '@nestjs/common';
import { memoryBroker } from '../brokers/memory.broker.js';
import { findMistakes, object, show, type DrainOptions, type LimitOptions, type Mistake } from '../hub/settings.js';
import type { ChannelOptions } from '../hub/definition.js';
import type { Authenticator } from '../hub/ports/authenticator.js';
import type { Broker } from '../hub/ports/broker.js';
import { systemClock, type Clock } from '../hub/ports/clock.js';
import type { MetricsExporter } from '../hub/ports/metrics.js';
import type { Tracing } from '../hub/ports/tracing.js';
import type { Transport } from '../hub/ports/transport.js';
import { longPolling } from '../transports/long-polling.transport.js';
import { sse } from '../transports/sse.transport.js';
import { webSocket } from '../transports/websocket.transport.js';
import { findSecurityMistakes } from '../security/options.js';
import type { OriginSetting } from '../security/origin.js';
import type { TrustedProxies } from '../security/proxy.js';

/** What the module can be told. Every option has a default; limits are on by default. */
export interface RealtimeModuleOptions {
  /**
   * Where peers of the module's own endpoint arrive. Absolute: neither the global prefix nor a version applies.
   * @defaultValue '/realtime'
   */
  path?: string;
  /** The wires. `[]` makes the application publish only. @defaultValue `[webSocket(), sse(), longPolling()]` */
  transports?: Transport[];
  /** What joins the nodes. The default serves one process only. @defaultValue `memoryBroker()` */
  broker?: Broker;
  /** Says who peers are. @defaultValue `anonymous()`: everybody is let in, nobody has an identity */
  auth?: Authenticator;
  /** Guards for every handshake, with context type `http`, besides those on `handleConnection`. */
  connectionGuards?: (Type<CanActivate> | CanActivate)[];
  /**
   * How a WebSocket is refused: `http` answers the upgrade with a status; `close` accepts it and closes with a code,
   * which is what a page in a browser can read. @defaultValue 'http'
   */
  rejectMode?: 'http' | 'close';
  /** Channels without a class, and the defaults of those with one: the same pattern takes its options from here. */
  channels?: Record<string, ChannelOptions>;
  /**
   * Whether global guards, pipes and interceptors run on gateways: `inherit`: on every version of Nest; `native`: as
   * that version does by itself. On channel hooks they always run; global filters never do. @defaultValue 'inherit'
   */
  globalEnhancers?: 'inherit' | 'native';
  /** Which pages may connect: the upgrade check and CORS alike. @defaultValue 'same-host' */
  origins?: OriginSetting;
  /** Whose `X-Forwarded-For` is believed: a number of hops, or addresses and CIDR ranges. @defaultValue 0 */
  trustedProxies?: TrustedProxies;
  /** Bounds per connection. `false` turns one off. */
  limits?: LimitOptions;
  /** How dead peers are found, ms. @defaultValue `{ intervalMs: 25_000, timeoutMs: 8_000 }` */
  heartbeat?: { intervalMs?: number; timeoutMs?: number };
  /** How long a member whose link was lost stays a member, ms. @defaultValue `{ graceMs: 10_000 }` */
  presence?: { graceMs?: number };
  /** How the node goes away as `app.close()` is called. @defaultValue `{ readinessMs: 0, windowMs: 10_000, timeoutMs: 10_000 }` */
  drain?: DrainOptions;
  /** Who is told what this node counts, and where; `RealtimeService.stats()` tells it to code. */
  metrics?: MetricsOptions;
  /** Serves a page at `{path}/admin` that shows what all nodes are and do, and may act. @defaultValue no such page */
  admin?: AdminOptions;
  /**
   * Traces handshakes, what peers send, publications and their delivery: `openTelemetry()` from
   * `nestjs-realtime/opentelemetry`. @defaultValue nothing is traced
   */
  tracing?: Tracing;
  /** How often positions are compared with the broker's, ms: how late a lost announcement is found. @defaultValue 10_000 */
  checkIntervalMs?: number;
}

/** How a node tells what it counts. */
export interface MetricsOptions {
  /** Writes it for a monitoring system: `prometheus()` from `nestjs-realtime/prometheus`. */
  exporter: MetricsExporter;
  /**
   * Serves `GET {path}/metrics` to those whom these guards let in (context type `http`); `[]` to everybody who reaches the
   * server. The page tells how many peers there are and what they do, not who they are. @defaultValue no such route
   */
  guards?: (Type<CanActivate> | CanActivate)[];
}

/** Who sees the admin page, and whether it acts. */
export interface AdminOptions {
  /** Serves `{path}/admin` to those whom these guards let in (context type `http`); `[]` to everybody who reaches the server. */
  guards: (Type<CanActivate> | CanActivate)[];
  /** Whether the page shows and does nothing: `false` lets it disconnect peers and publish. @defaultValue true */
  readOnly?: boolean;
}

/** Makes the options in a class of its own: `forRootAsync({ useClass })`. */
export interface RealtimeOptionsFactory {
  createRealtimeOptions(): RealtimeModuleOptions | Promise<RealtimeModuleOptions>;
}

/** The module's options; `overrideProvider` replaces them in tests. */
export const REALTIME_OPTIONS = Symbol.for('nestjs-realtime:options');
/** The broker; `overrideProvider` replaces it in tests. */
export const REALTIME_BROKER = Symbol.for('nestjs-realtime:broker');
/**
 * The time by which the hub and its default broker go, a {@link Clock}; `overrideProvider` replaces it in tests. What
 * others time for themselves goes by the real one: authenticators, Redis, transports' own limits.
 */
export const REALTIME_CLOCK = Symbol.for('nestjs-realtime:clock');

/** The options, checked and filled in: see {@link ResolvedOptions}. */
export const RESOLVED_OPTIONS = Symbol.for('nestjs-realtime:resolved-options');

/** The module's options, filled in where Nest's side needs them. */
export interface ResolvedOptions extends RealtimeModuleOptions {
  readonly path: string;
  readonly transports: Transport[];
  readonly broker: Broker;
  readonly connectionGuards: (Type<CanActivate> | CanActivate)[];
  readonly rejectMode: 'http' | 'close';
  readonly globalEnhancers: 'inherit' | 'native';
  readonly origins: OriginSetting;
  readonly trustedProxies: TrustedProxies;
}

const NAMES = [
  'path',
  'transports',
  'broker',
  'auth',
  'connectionGuards',
  'rejectMode',
  'channels',
  'globalEnhancers',
  'origins',
  'trustedProxies',
  'limits',
  'heartbeat',
  'presence',
  'drain',
  'metrics',
  'admin',
  'tracing',
  'checkIntervalMs',
] as const satisfies (keyof RealtimeModuleOptions)[];
const PATH = /^\/(?:[^\s?#*{}/]+\/)*[^\s?#*{}/]+$/;

/** Checks the options and fills them in. Throws one Error that lists every mistake with its path. */
export function resolveOptions(
  options: RealtimeModuleOptions | undefined,
  clock: Clock = systemClock,
): ResolvedOptions {
  if (options === undefined) {
    const message = 'got no options; import RealtimeModule.forRoot() or forRootAsync() once, in the root module';
    throw bootError('RealtimeModule cannot start', [{ path: 'RealtimeModule', message }]);
  }
  const mistakes: Mistake[] = [];
  const report = (path: string, message: string): void => void mistakes.push({ path, message });
  if (object('options', options, undefined, report)) {
    for (const name of Object.keys(options)) {
      if (!(NAMES as readonly string[]).includes(name)) report(name, `is no option; known are ${NAMES.join(', ')}`);
    }
    const { path, globalEnhancers, transports, connectionGuards, broker, auth, tracing } = options;
    if (path !== undefined && (typeof path !== 'string' || !PATH.test(path))) {
      report('path', `expected an absolute path such as '/realtime', got ${show(path)}`);
    }
    if (globalEnhancers !== undefined && globalEnhancers !== 'inherit' && globalEnhancers !== 'native') {
      report('globalEnhancers', `expected 'inherit' or 'native', got ${show(globalEnhancers)}`);
    }
    checkTransports(transports, report);
    checkGuards('connectionGuards', connectionGuards, report);
    checkMetrics(options.metrics, report);
    checkAdmin(options.admin, report);
    hasMethod('broker', broker, 'open', 'a broker such as memoryBroker()', report);
    hasMethod('tracing', tracing, 'publication', 'what openTelemetry() returns', report);
    hasMethod('auth', auth, 'authenticate', 'an authenticator such as anonymous()', report);
    mistakes.push(...findSecurityMistakes(options), ...findMistakes(options));
  }
  if (mistakes.length > 0) throw bootError('RealtimeModule has wrong options', mistakes);
  return {
    ...options,
    path: options.path ?? '/realtime',
    transports: options.transports ?? [webSocket(), sse(), longPolling()],
    broker: options.broker ?? memoryBroker({ clock }),
    connectionGuards: options.connectionGuards ?? [],
    rejectMode: options.rejectMode ?? 'http',
    globalEnhancers: options.globalEnhancers ?? 'inherit',
    origins: options.origins ?? 'same-host',
    trustedProxies: options.trustedProxies ?? 0,
  };
}

/** One error for all mistakes of a kind, each with its path, so that they can be mended in one go. */
export function bootError(title: string, mistakes: readonly Mistake[]): Error {
  const lines = new Set(mistakes.map(({ path, message }) => `  - ${path}: ${message}`));
  return new Error([`${title}:`, ...lines].join('\n'));
}

type Report = (path: string, message: string) => void;

function hasMethod(path: string, value: unknown, method: string, expected: string, report: Report): void {
  if (value === undefined) return;
  if (typeof (value as Record<string, unknown> | null)?.[method] === 'function') return;
  // Text in such a place may be a secret, or a URL that holds one.
  report(path, `expected ${expected}, got ${typeof value === 'string' ? 'a text' : show(value)}`);
}

function checkMetrics(metrics: unknown, report: Report): void {
  if (metrics === undefined || !object('metrics', metrics, ['exporter', 'guards'], report)) return;
  const { exporter, guards } = metrics as { exporter?: unknown; guards?: unknown };
  const expected = 'an exporter such as prometheus()';
  if (exporter === undefined) report('metrics.exporter', `expected ${expected}, got undefined`);
  hasMethod('metrics.exporter', exporter, 'open', expected, report);
  checkGuards('metrics.guards', guards, report);
}

function checkAdmin(admin: unknown, report: Report): void {
  if (admin === undefined || !object('admin', admin, ['guards', 'readOnly'], report)) return;
  const { guards, readOnly } = admin as { guards?: unknown; readOnly?: unknown };
  if (guards === undefined) report('admin.guards', 'expected an array of guards; [] lets everybody see the page');
  checkGuards('admin.guards', guards, report);
  if (readOnly !== undefined && typeof readOnly !== 'boolean') {
    report('admin.readOnly', `expected true or false, got ${show(readOnly)}`);
  }
}

function checkGuards(path: string, guards: unknown, report: Report): void {
  if (guards === undefined) return;
  if (!Array.isArray(guards)) {
    report(path, `expected an array of guards, got ${show(guards)}`);
    return;
  }
  guards.forEach((guard: unknown, i) => {
    if (typeof guard === 'function' || typeof (guard as CanActivate | null)?.canActivate === 'function') return;
    report(`${path}[${i}]`, `expected a guard, got ${show(guard)}`);
  });
}

function checkTransports(transports: unknown, report: Report): void {
  if (transports === undefined) return;
  if (!Array.isArray(transports)) {
    report('transports', `expected an array such as [webSocket(), sse(), longPolling()], got ${show(transports)}`);
    return;
  }
  const seen = new Set<string>();
  transports.forEach((transport: Partial<Transport> | null, i) => {
    if (typeof transport?.open !== 'function' || typeof transport.name !== 'string') {
      report(`transports[${i}]`, `expected a transport such as webSocket(), got ${show(transport)}`);
    } else if (seen.has(transport.name)) {
      report(`transports[${i}]`, `'${transport.name}' is there twice`);
    } else {
      seen.add(transport.name);
    }
  });
}
