import { describe, expect, it } from '@jest/globals';
import { memoryBroker } from '../../../lib/brokers/memory.broker.js';
import type { Transport } from '../../../lib/hub/ports/transport.js';
import { resolveSettings } from '../../../lib/hub/settings.js';
import { anonymous } from '../../../lib/hub/ports/authenticator.js';
import { audit, type AuditFinding, type Deployment } from '../../../lib/nest/audit.js';
import { resolveOptions, type RealtimeModuleOptions } from '../../../lib/nest/options.js';
import { redisBroker } from '../../../lib/redis.js';

/** A wire of somebody else, by which peers only receive. */
const feed: Transport = {
  name: 'feed',
  subpath: 'feed',
  methods: ['GET'],
  open: () => undefined,
  close: () => undefined,
};
const log = { warn: () => undefined, error: () => undefined };

/** An application that is fit to be deployed, but for what a test changes. */
function deployment(options: RealtimeModuleOptions = {}, facts: Partial<Deployment> = {}): Deployment {
  const resolved = resolveOptions({ auth: anonymous(), ...options });
  return {
    options: resolved,
    settings: resolveSettings({ ...resolved, log }),
    serving: true,
    handlers: true,
    guarded: false,
    serverTimeoutMs: 0,
    untrustedProxy: false,
    watched: true,
    heedsSigterm: true,
    replica: undefined,
    ...facts,
  };
}

const checks = (facts: Deployment): AuditFinding['check'][] => audit(facts).map(({ check }) => check);

describe('the audit', () => {
  it('finds nothing where all is well', () => {
    expect(audit(deployment())).toEqual([]);
    expect(audit(deployment({ broker: redisBroker({ url: 'redis://localhost' }) }, { replica: 'a worker' }))).toEqual(
      [],
    );
  });

  it('finds an admin page that nobody guards, and says so where it acts', () => {
    const guard = { canActivate: () => true };
    expect(checks(deployment({ admin: { guards: [guard], readOnly: false } }))).toEqual([]);
    const [shows] = audit(deployment({ admin: { guards: [] } }, { serving: false }));
    expect(shows).toMatchObject({ check: 'admin', message: expect.not.stringContaining('publishes') });
    const [acts] = audit(deployment({ admin: { guards: [], readOnly: false } }));
    expect(acts).toMatchObject({ check: 'admin', message: expect.stringContaining('ends connections and publishes') });
  });

  it('says of each finding what falls short and what mends it', () => {
    const facts = deployment(
      { origins: '*', heartbeat: { intervalMs: 90_000 } },
      { replica: 'NODE_APP_INSTANCE', heedsSigterm: false, untrustedProxy: true, watched: false },
    );
    const findings = audit(facts);
    expect(findings.length).toBeGreaterThan(5);
    for (const { message, fix } of findings) {
      expect(message).toMatch(/^[A-Z].*[^.]$/);
      expect(fix).toMatch(/^[A-Z].*[^.]$/);
    }
  });

  it.each<[AuditFinding['check'], Deployment]>([
    ['protocols', deployment({ transports: [feed] })],
    ['broker', deployment({ broker: memoryBroker() }, { replica: 'a worker of node:cluster' })],
    ['heartbeat', deployment({ heartbeat: { intervalMs: 60_000 } })],
    ['heartbeat', deployment({}, { serverTimeoutMs: 20_000 })],
    ['history', deployment({ channels: { 'chat.:room': { history: { size: 10, ttlMs: 50_000 } } } })],
    ['authentication', { ...deployment(), options: resolveOptions({}) }],
    ['limits', deployment({ limits: { maxOutboxBytes: false } })],
    ['origins', deployment({ origins: '*' })],
    ['monitoring', deployment({}, { watched: false })],
    ['proxies', deployment({}, { untrustedProxy: true })],
    ['shutdown', deployment({}, { heedsSigterm: false })],
  ])('finds what falls short: %s', (check, facts) => {
    expect(checks(facts)).toEqual([check]);
  });

  it.each<[string, Deployment]>([
    [
      'a transport that takes no events where no gateway has any',
      deployment({ transports: [feed] }, { handlers: false }),
    ],
    ['a heartbeat that keeps proxies awake', deployment({ heartbeat: { intervalMs: 59_000 }, channels: {} })],
    [
      'a history that outlives a client that is away',
      deployment({ channels: { news: { history: { size: 1, ttlMs: 53_000 } } } }),
    ],
    ['a channel that keeps nothing', deployment({ channels: { cursors: { history: false } } })],
    ['no authentication behind guards', { ...deployment({}, { guarded: true }), options: resolveOptions({}) }],
    ['any number of connections, as by default', deployment({ limits: { maxConnections: false } })],
    ['origins that are listed', deployment({ origins: ['https://example.com'] })],
  ])('has nothing against %s', (_what, facts) => {
    expect(audit(facts)).toEqual([]);
  });

  it('asks of a worker only what concerns it', () => {
    const worker = { serving: false, heedsSigterm: false, watched: false, replica: 'K_SERVICE' };
    expect(checks({ ...deployment({ origins: '*' }, worker), options: resolveOptions({}) })).toEqual([
      'broker',
      'monitoring',
    ]);
  });
});
