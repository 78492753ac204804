import { isRealtimeException } from '../protocol/errors.js';
import type { BrokerSession } from './ports/broker.js';
import type { Meter } from './ports/meter.js';

type Call = (...args: never[]) => Promise<unknown>;

/** The calls whose time is taken; those of records are one, as are those of tickets and of revocations. */
const NAMES = {
  append: 'append',
  read: 'read',
  newest: 'read',
  tops: 'tops',
  subscribe: 'subscribe',
  unsubscribe: 'unsubscribe',
  join: 'presence',
  leave: 'presence',
  presence: 'presence',
  register: 'registry',
  update: 'registry',
  unregister: 'registry',
  connections: 'registry',
  countElsewhere: 'registry',
  revoke: 'revocations',
  revocations: 'revocations',
  putOnce: 'tickets',
  takeOnce: 'tickets',
  sweep: 'sweep',
} as const satisfies Partial<Record<keyof BrokerSession, string>>;

/** A session whose calls are timed and whose errors are counted. */
export function meteredSession(session: BrokerSession, meter: Meter): BrokerSession {
  const timed: Record<string, Call> = {};
  for (const [name, label] of Object.entries(NAMES)) {
    const duration = meter.call(label);
    const failed = (error: unknown): void => meter.brokerErrors.add(isRealtimeException(error) ? error.code : 'other');
    timed[name] = (...args) => {
      const begun = performance.now();
      const answer = (session as unknown as Record<string, Call>)[name]!(...args);
      answer.then(() => duration.observe((performance.now() - begun) / 1_000), failed);
      return answer;
    };
  }
  return {
    ...(timed as unknown as Pick<BrokerSession, keyof typeof NAMES>),
    get available() {
      return session.available;
    },
    records: session.records,
    holdsLease: () => session.holdsLease(),
    close: () => session.close(),
  };
}
