import type { RealtimeClient } from '../client/client.js';
import { TRANSPORT } from './arguments.js';
import { jsonOrText, makeClient, pause, reaching, within, type Command, type Terminal } from './command.js';
import { Deliveries } from './deliveries.js';
import { describeTimes } from './histogram.js';

/** How long a connection, and the last delivery, may take, ms. */
const WITHIN_MS = 15_000;

/** `bench`: connections and fan-out against a running server. */
export const bench: Command = {
  name: 'bench',
  parameters: ['CHANNEL'],
  what: 'Opens connections, publishes to them, and tells how long both took.\nEach subscribes to the channel; the first one publishes, so the channel has to let peers publish. The limits of the server count: handshakes and connections of this address are limited by default.',
  options: {
    ...TRANSPORT,
    connections: { type: 'string', value: 'N', what: 'how many connections', initial: '100' },
    'open-rate': { type: 'string', value: 'N', what: 'connections that are opened per second', initial: '50' },
    messages: { type: 'string', value: 'N', what: 'publications; 0 for connections only', initial: '50' },
    rate: { type: 'string', value: 'N', what: 'publications per second', initial: '10' },
    event: { type: 'string', value: 'NAME', what: 'the event that is published', initial: 'message' },
    data: { type: 'string', value: 'JSON', what: 'its data', initial: '{"text":"bench"}' },
  },
  async run(args, terminal) {
    const connections = args.count('connections', 1);
    const openRate = args.number('open-rate', 0.1);
    const messages = args.count('messages', 0);
    const rate = args.number('rate', 0.1);
    const [name] = args.positionals;
    const clients: RealtimeClient[] = [];
    const deliveries = new Deliveries();
    const told = new Tally();
    try {
      const openings = await paced(connections, openRate, terminal, 'connections', async () => {
        const client = makeClient(args);
        clients.push(client);
        const channel = client.channel(name!);
        client.on('error', (error) => told.add(error.message));
        channel.on('error', () => undefined); // told by subscribe()
        channel.on('lost', () => told.add('publications were lost'));
        channel.on('*', (_data, { position }) => deliveries.arrived(position, performance.now()));
        await within(WITHIN_MS, reaching(client, channel.subscribe()));
      });
      report(terminal, `${openings.times.length} of ${connections} connections were subscribed`, openings.times);
      let failed = openings.failures;
      if (messages > 0 && openings.times.length > 0 && !terminal.signal.aborted) {
        const publisher = clients[0]!.channel(name!);
        const event = args.text('event')!;
        const data = jsonOrText(args.text('data')!);
        const publishing = await paced(messages, rate, terminal, 'publications', async () => {
          const from = performance.now();
          const position = await within(WITHIN_MS, publisher.publish(event, data));
          if (position !== null) deliveries.sent(position, from);
        });
        const { published, delays } = deliveries;
        const expected = published * openings.times.length;
        const enough = new AbortController();
        const waiting = pause(WITHIN_MS, AbortSignal.any([terminal.signal, enough.signal]));
        await Promise.race([deliveries.reach(expected), waiting]);
        enough.abort();
        report(terminal, `${published} of ${messages} publications were answered`, publishing.times);
        report(terminal, `${delays.length} of ${expected} deliveries came`, delays);
        failed += publishing.failures + (expected - delays.length);
      }
      told.note('what clients told', terminal);
      return failed === 0 ? 0 : 1;
    } finally {
      for (const client of clients) client.close();
    }
  },
};

/** Does something so many times, so often a second; gives how long each took that succeeded. */
async function paced(
  count: number,
  perSecond: number,
  terminal: Terminal,
  what: string,
  act: () => Promise<void>,
): Promise<{ times: number[]; failures: number }> {
  const { signal } = terminal;
  const start = performance.now();
  const times: number[] = [];
  const failed = new Tally();
  const one = async (): Promise<void> => {
    const from = performance.now();
    try {
      await act();
      times.push(performance.now() - from);
    } catch (error) {
      failed.add((error as Error).message);
    }
    terminal.progress(`${what}: ${times.length} of ${count}`);
  };
  const begun: Promise<void>[] = [];
  for (let i = 0; i < count && !signal.aborted; i++) {
    await pause(start + (i * 1_000) / perSecond - performance.now(), signal);
    if (signal.aborted) break;
    begun.push(one());
  }
  await Promise.race([Promise.all(begun), interruption(signal)]);
  failed.note(`${what} that failed`, terminal);
  return { times, failures: begun.length - times.length };
}

/** How often each message came. */
class Tally {
  readonly #counts = new Map<string, number>();

  add(message: string): void {
    this.#counts.set(message, (this.#counts.get(message) ?? 0) + 1);
  }

  note(title: string, { note }: Terminal): void {
    for (const [message, count] of this.#counts) note(`${title}: ${count} times ${message}`);
  }
}

function report({ out }: Terminal, title: string, times: readonly number[]): void {
  out(title);
  if (times.length > 0) for (const line of describeTimes(times)) out(`  ${line}`);
}

function interruption(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
