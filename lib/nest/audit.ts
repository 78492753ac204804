import type { ChannelDefinition } from '../hub/definition.js';
import type { HubSettings, LimitOptions } from '../hub/settings.js';
import type { ResolvedOptions } from './options.js';

/** The deployment checklist. */
export const CHECKPOINTS = [
  'protocols',
  'broker',
  'heartbeat',
  'history',
  'authentication',
  'limits',
  'origins',
  'admin',
  'monitoring',
  'proxies',
  'shutdown',
] as const;

/** A point of the deployment checklist at which this application falls short. */
export interface AuditFinding {
  /** The point of the checklist. */
  readonly check: (typeof CHECKPOINTS)[number];
  /** What is the case, and what comes of it. */
  readonly message: string;
  /** What mends it. */
  readonly fix: string;
}

/** What the audit looks at. */
export interface Deployment {
  readonly options: ResolvedOptions;
  readonly settings: HubSettings;
  /** Whether peers can come: a worker has none. */
  readonly serving: boolean;
  /** Whether a gateway takes events. */
  readonly handlers: boolean;
  /** Whether a gateway has guards on `handleConnection`. */
  readonly guarded: boolean;
  /** Node's `server.timeout` of the application's server, ms; 0: none. */
  readonly serverTimeoutMs: number;
  /** Whether an address was named by a proxy that is not trusted. */
  readonly untrustedProxy: boolean;
  /** Whether anybody has asked for the health. */
  readonly watched: boolean;
  /** Whether something listens to SIGTERM. */
  readonly heedsSigterm: boolean;
  /** What tells that this process is one of several. */
  readonly replica: string | undefined;
}

/** After how long without traffic the usual load balancers cut a connection, ms: nginx and those of the large clouds. */
const PROXY_IDLE_MS = 60_000;
/** The longest wait of the client between two attempts, ms. */
const CLIENT_BACKOFF_MS = 20_000;

/** Told when it is seen, too. */
export const UNTRUSTED_PROXY: AuditFinding = {
  check: 'proxies',
  message:
    'Peers come through a proxy that is not trusted (X-Forwarded-For): they all have its address, and share its limits',
  fix: 'Name it in `trustedProxies`, by address, CIDR range or number of hops',
};

type Check = (deployment: Deployment) => AuditFinding[];

/** Goes through the deployment checklist. Nothing is found where all is well. */
export function audit(deployment: Deployment): AuditFinding[] {
  return (deployment.serving ? [...CHECKS, ...PEER_CHECKS] : CHECKS).flatMap((check) => check(deployment));
}

const CHECKS: readonly Check[] = [sharedBroker, adminPage, monitoring];
/** What only concerns applications that peers connect to. */
const PEER_CHECKS: readonly Check[] = [
  protocols,
  heartbeat,
  historyWindow,
  authentication,
  rateLimits,
  origins,
  proxies,
  shutdown,
];

/** A finding as one line of a log. */
export function describeFinding({ message, fix }: AuditFinding): string {
  return `${message}. ${fix}.`;
}

function protocols({ options: { transports }, handlers }: Deployment): AuditFinding[] {
  if (!handlers || transports.some((wire) => typeof wire.upgrade === 'function' || wire.takesFrames === true))
    return [];
  const names = transports.map(({ name }) => name).join(', ');
  const message = `Gateways take events, but peers cannot send any: of the transports (${names}) none carries frames to the server`;
  return [
    {
      check: 'protocols',
      message,
      fix: 'Add webSocket(), sse() or longPolling() to `transports`, or take events by HTTP controllers',
    },
  ];
}

function sharedBroker({ options: { broker }, replica }: Deployment): AuditFinding[] {
  if (broker.shared || replica === undefined) return [];
  const message = `This looks like one of several processes (${replica}), and ${broker.name} joins none: peers of one miss what another publishes`;
  return [{ check: 'broker', message, fix: "Use redisBroker() from 'nestjs-realtime/redis'" }];
}

function heartbeat({ settings, serverTimeoutMs }: Deployment): AuditFinding[] {
  const { intervalMs } = settings.heartbeat;
  if (serverTimeoutMs > 0 && serverTimeoutMs <= intervalMs) {
    const message = `The HTTP server ends what is silent for ${serverTimeoutMs} ms (server.timeout), and peers are asked for a sign of life only every ${intervalMs} ms`;
    return [{ check: 'heartbeat', message, fix: 'Leave server.timeout at 0, or make heartbeat.intervalMs shorter' }];
  }
  if (intervalMs < PROXY_IDLE_MS) return [];
  const message = `Links are silent for up to ${intervalMs} ms, and most proxies and load balancers cut them after 60 s`;
  return [{ check: 'heartbeat', message, fix: 'Set heartbeat.intervalMs well below 60_000, such as 25_000' }];
}

function historyWindow({ settings: { declarations, heartbeat: times } }: Deployment): AuditFinding[] {
  const awayMs = times.intervalMs + times.timeoutMs + CLIENT_BACKOFF_MS;
  const short = declarations.all.filter(({ retention: { size, ttlMs } }) => size > 0 && ttlMs < awayMs);
  if (short.length === 0) return [];
  const message = `A peer whose link breaks unnoticed is back after up to ${awayMs} ms, and the history of ${listed(short)} is over by then: it is told $lost`;
  return [{ check: 'history', message, fix: `Set history.ttlMs to ${awayMs} or more, or heartbeat.intervalMs lower` }];
}

function authentication({ options, guarded }: Deployment): AuditFinding[] {
  if (options.auth !== undefined || guarded || options.connectionGuards.length > 0) return [];
  const message = 'Everybody is let in: there is neither `auth` nor a guard for connections';
  const fix = "Set auth: jwtAuth(…) from 'nestjs-realtime/jwt', or auth: anonymous() to say that this is meant";
  return [{ check: 'authentication', message, fix }];
}

function rateLimits({ options: { limits = {} } }: Deployment): AuditFinding[] {
  const off = (Object.keys(limits) as (keyof LimitOptions)[]).filter(
    (name) => limits[name] === false && name !== 'maxConnections',
  );
  if (off.length === 0) return [];
  const message = `Without ${off.join(', ')} one peer can take what all need`;
  return [{ check: 'limits', message, fix: 'Set a number that your peers stay below, instead of false' }];
}

function origins({ options: { origins: setting } }: Deployment): AuditFinding[] {
  if (setting !== '*') return [];
  const message = 'Pages of every site may connect, with the cookies of whoever opens them';
  return [{ check: 'origins', message, fix: "List the sites in `origins`, or leave it at 'same-host'" }];
}

function adminPage({ options: { admin } }: Deployment): AuditFinding[] {
  if (admin === undefined || admin.guards.length > 0) return [];
  const acts = admin.readOnly === false ? ', and ends connections and publishes with it' : '';
  const message = `Everybody who reaches this server sees the admin page${acts}: who the peers are, and what is published`;
  return [{ check: 'admin', message, fix: 'Name a guard in `admin.guards`' }];
}

function monitoring({ watched }: Deployment): AuditFinding[] {
  if (watched) return [];
  const message = 'Nobody has asked for the health of this process: whether it reaches its broker stays unseen';
  return [{ check: 'monitoring', message, fix: 'Have a probe ask RealtimeService.health(); see docs/operations.md' }];
}

function proxies({ untrustedProxy }: Deployment): AuditFinding[] {
  return untrustedProxy ? [UNTRUSTED_PROXY] : [];
}

function shutdown({ heedsSigterm }: Deployment): AuditFinding[] {
  if (heedsSigterm) return [];
  const message = 'SIGTERM ends this process at once: peers are not told to go elsewhere, and hooks do not run';
  return [{ check: 'shutdown', message, fix: 'Call app.enableShutdownHooks() before app.listen()' }];
}

function listed(definitions: readonly ChannelDefinition[]): string {
  return definitions.map(({ pattern }) => `'${pattern}'`).join(', ');
}
