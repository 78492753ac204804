import { memoryBroker } from '../../lib/brokers/memory.broker.js';
import { memorySurgery } from '../../lib/testing/log-surgery.js';
import { ManualClock } from '../../lib/testing/manual-clock.js';
import { describeBroker } from './broker.conformance.js';
import { describeRecords } from './records.conformance.js';

describeBroker(
  'memory',
  () => {
    const clock = new ManualClock();
    const broker = memoryBroker({ clock });
    return {
      broker: () => broker,
      now: () => clock.now(),
      pass: (ms) => clock.pass(ms),
      surgery: memorySurgery(broker),
      dispose: () => Promise.resolve(),
    };
  },
  { time: 'manual', unitMs: 1_000, surgery: true, keySlack: 0 },
);

describeRecords(
  'memory',
  () => {
    const clock = new ManualClock();
    const broker = memoryBroker({ clock });
    return { broker: () => broker, pass: (ms) => clock.pass(ms), dispose: () => Promise.resolve() };
  },
  { unitMs: 1_000 },
);
