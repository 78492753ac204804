import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { UserIdentity } from '../../lib/hub/identity.js';
import type { AnnouncementFate, CallFate } from '../../lib/testing/faulty-broker.js';
import { Fleet } from '../support/fleet.js';
import type { TestLink } from '../support/test-link.js';
import { runs, TIMEOUT_MS } from './runs.js';

const NODES = 2;
/** What a connected node is given to hear of a revocation, ms: one period of the check of positions, at most. */
const HEARD_MS = 11_000;

type Step =
  | { op: 'arrive'; node: number; user: string; token: string }
  | { op: 'revoke'; node: number; what: { token: string } | { user: string }; fate: CallFate }
  | { op: 'emit'; node: number }
  | { op: 'pause' | 'resume' | 'release'; node: number }
  | { op: 'announcements'; node: number; fate: AnnouncementFate }
  | { op: 'trim' | 'wipe' }
  | { op: 'pass'; ms: number };

const node = fc.nat(NODES - 1);
const user = fc.constantFrom('ada', 'bob');
const token = fc.constantFrom('k1', 'k2', 'k3');
const of = <T extends string>(...ops: T[]): fc.Arbitrary<T> => fc.constantFrom(...ops);

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ op: of('arrive'), node, user, token }) },
    {
      weight: 3,
      arbitrary: fc.record({
        op: of('revoke'),
        node,
        what: fc.oneof(fc.record({ token }), fc.record({ user })),
        fate: fc.constantFrom<CallFate>('ok', 'ok', 'ok', 'unavailable', 'unapplied', 'applied'),
      }),
    },
    { weight: 2, arbitrary: fc.record({ op: of('emit'), node }) },
    { weight: 4, arbitrary: fc.record({ op: of('pause', 'resume', 'release'), node }) },
    {
      weight: 4,
      arbitrary: fc.record({
        op: of('announcements'),
        node,
        fate: fc.constantFrom<AnnouncementFate>('lose', 'lose', 'repeat', 'delay'),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: of('trim', 'wipe') }) },
    { weight: 2, arbitrary: fc.record({ op: of('pass'), ms: fc.constantFrom(400, 1_500, 10_500) }) },
  ),
  { maxLength: 40, size: 'max' },
);

/** What was revoked, as the callers were told: none is forgotten, none is invented. */
class Expected {
  readonly tokens = new Set<string>();
  readonly before = new Map<string, number>();
  /** What may be revoked, as its caller was told neither. */
  readonly doubtful = new Set<string>();

  note(what: { token: string } | { user: string }, now: number): void {
    if ('token' in what) this.tokens.add(what.token);
    else this.before.set(what.user, Math.floor(now / 1_000));
  }

  revokes({ id, claims: { jti, iat } }: UserIdentity): boolean {
    return this.tokens.has(jti as string) || (this.before.get(id) ?? -1) >= (iat as number);
  }
}

async function run(taken: readonly Step[]): Promise<void> {
  const fleet = await Fleet.open({ nodes: NODES, heartbeat: { intervalMs: 2_000_000 } });
  const expected = new Expected();
  const links: TestLink[] = [];
  const idle = { receive: () => undefined, closed: () => undefined };
  try {
    for (const step of taken) {
      const now = fleet.clock.now();
      switch (step.op) {
        case 'arrive': {
          const claims = { jti: step.token, iat: Math.floor(now / 1_000) };
          links.push(fleet.join(step.node, idle, { user: new UserIdentity(step.user, claims) }));
          break;
        }
        case 'revoke': {
          const { what, fate } = step;
          fleet.faults(step.node).calls('revoke', fate);
          const name = JSON.stringify(what);
          fleet.hubs[step.node]!.revocations.revoke(what).then(
            () => expected.note(what, now),
            () => expected.doubtful.add(name),
          );
          break;
        }
        case 'emit':
          fleet.hubs[step.node]!.control.emit({ user: 'ada' }, 'n', 1).catch(() => undefined);
          break;
        case 'pause':
        case 'resume':
        case 'release':
          fleet.faults(step.node)[step.op]();
          break;
        case 'announcements':
          fleet.faults(step.node).announcements('envelope', step.fate);
          break;
        case 'trim':
          await fleet.broker.trim('$control');
          break;
        case 'wipe':
          await fleet.broker.wipe();
          break;
        case 'pass':
          await fleet.pass(step.ms);
          break;
        default:
          step satisfies never;
      }
      await fleet.settle();
    }
    for (const faults of fleet.broker.sessions) faults.heal();
    await fleet.pass(2 * HEARD_MS);
    for (const { connection } of links) {
      const identity = connection.user!;
      const gone = connection.closed !== undefined;
      if (expected.revokes(identity)) expect([identity, gone]).toEqual([identity, true]);
      else if (gone) expect(expected.doubtful).toContain(doubtOf(expected.doubtful, identity));
    }
  } finally {
    await fleet.close();
  }
}

/** The revocation in doubt that an identity may have met. */
function doubtOf(doubtful: ReadonlySet<string>, { id, claims }: UserIdentity): string | undefined {
  const names = [JSON.stringify({ token: claims.jti }), JSON.stringify({ user: id })];
  return names.find((name) => doubtful.has(name));
}

describe('revocation', () => {
  test(
    'P13: whoever is revoked is gone, whatever the nodes missed; nobody else is',
    () => fc.assert(fc.asyncProperty(steps, run), runs(300)),
    TIMEOUT_MS,
  );
});
