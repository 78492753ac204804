import { afterEach, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { RealtimeService } from '../../lib/index.js';
import { platforms } from '../e2e/support/platforms.js';
import { startLimitedTarget, startTarget } from './support/app.js';
import { HandshakeSource } from './support/handshake-source.js';
import { MIB, usedBytes } from './support/memory.js';
import { Neighbour } from './support/neighbour.js';
import { Random, seedOf } from './support/random.js';

const HANDSHAKES_PER_PLATFORM = 10_000;
const LIMITED_HANDSHAKES = 2_000;
const AT_ONCE = 100;
const GROWTH_BYTES = 6 * MIB;

/** Some ten seconds, where nothing else runs. */
const TIMEOUT_MS = 180_000;

const seed = seedOf(process.env.HOSTILE_SEED);

/** A handshake on its way: resolves when it was answered, or its connection closed. */
class Attempt {
  readonly over: Promise<void>;
  readonly answered: Promise<void>;
  /** What came, up to the end of the head of the response. */
  text = '';
  readonly #socket;

  constructor(
    port: number,
    private readonly sent: Buffer,
  ) {
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.on('error', () => undefined);
    this.over = new Promise((resolve) => this.#socket.once('close', () => resolve()));
    const head = new Promise<void>((resolve) => {
      this.#socket.on('data', (bytes: Buffer) => {
        if (this.text.length < 20_000) this.text += bytes.toString('latin1');
        if (this.text.includes('\r\n\r\n')) resolve();
      });
    });
    this.answered = Promise.race([head, this.over]);
    this.#socket.write(sent);
  }

  /** Nothing more comes from this side: a server that waits for the rest of a request ends. */
  end(): void {
    this.#socket.end();
  }

  async destroy(): Promise<void> {
    this.#socket.destroy();
    await this.over;
  }

  /** What is wrong with the answer. */
  get mistake(): string | undefined {
    const [head = ''] = this.text.split('\r\n\r\n', 1);
    const wrong =
      head === ''
        ? undefined // it was closed without an answer
        : !/^HTTP\/1\.1 [1-5]\d\d /.test(head)
          ? 'is no answer'
          : /^x-injected/im.test(head)
            ? 'has a header that the peer forged'
            : head.startsWith('HTTP/1.1 500 ')
              ? 'tells a failure'
              : undefined;
    return wrong === undefined
      ? undefined
      : `${wrong}: ${head.slice(0, 300)}, to ${JSON.stringify(this.sent.toString('latin1').slice(0, 500))}`;
  }
}

/** The connections, once the hub has noticed that others have gone. */
async function onlyOneLeft(realtime: RealtimeService): Promise<unknown[]> {
  let left = await realtime.connections();
  for (let turns = 0; turns < 100 && left.length > 1; turns++) {
    await new Promise((resolve) => setImmediate(resolve));
    left = await realtime.connections();
  }
  return left;
}

let dispose: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of dispose.reverse()) await end();
  dispose = [];
});

/** Tries a lot of handshakes at once. Returns what was not as it must be, and counts the statuses. */
async function storm(port: number, source: HandshakeSource, statuses: Map<string, number>): Promise<string[]> {
  const attempts = Array.from({ length: AT_ONCE }, () => new Attempt(port, source.next()));
  // Once a request that came after them was answered, those without an answer wait for the rest of a request.
  const barrier = new Attempt(port, Buffer.from('GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n'));
  await barrier.answered;
  await barrier.destroy();
  for (const attempt of attempts) attempt.end();
  await Promise.all(attempts.map((attempt) => attempt.answered));
  for (const attempt of attempts) {
    await attempt.destroy();
    const status = /^HTTP\/1\.1 (\d+)/.exec(attempt.text)?.[1] ?? 'closed';
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  return attempts.flatMap(({ mistake }) => mistake ?? []);
}

describe.each(platforms)(`hostile handshakes on $name, HOSTILE_SEED=${seed}`, (platform) => {
  it(
    `are answered or closed, and leave nothing behind: ${HANDSHAKES_PER_PLATFORM} of them`,
    async () => {
      const target = await startTarget(platform, { trustedProxies: 1 });
      dispose.push(() => target.close());
      const neighbour = await Neighbour.join(target.port, target.app.get(RealtimeService));
      dispose.push(() => neighbour.leave());
      const source = new HandshakeSource(new Random(seed), target.port);
      const statuses = new Map<string, number>();
      const wrong: string[] = [];
      const used: number[] = [];
      for (let done = 0; done < HANDSHAKES_PER_PLATFORM && wrong.length < 10; done += AT_ONCE) {
        wrong.push(...(await storm(target.port, source, statuses)));
        if ((done + AT_ONCE) % (HANDSHAKES_PER_PLATFORM / 4) === 0) used.push(await usedBytes());
      }
      expect(wrong).toEqual([]);
      expect(target.logger.lines).toEqual([]);
      expect(used.at(-1)! - used[0]!).toBeLessThan(GROWTH_BYTES);
      for (const status of ['101', '200', '400', '403', '404', '405', '426'])
        expect(statuses.get(status)).toBeGreaterThan(0);
      const { missed } = await neighbour.settle();
      expect(missed).toEqual([]);
      const { length } = await onlyOneLeft(target.app.get(RealtimeService));
      expect(length).toBe(1);
    },
    TIMEOUT_MS,
  );

  it(`are so with the limits that there are by default: ${LIMITED_HANDSHAKES} of them`, async () => {
    const target = await startLimitedTarget(platform);
    dispose.push(() => target.close());
    const source = new HandshakeSource(new Random(seed), target.port);
    const statuses = new Map<string, number>();
    for (let done = 0; done < LIMITED_HANDSHAKES; done += AT_ONCE) {
      expect(await storm(target.port, source, statuses)).toEqual([]);
    }
    expect(statuses.get('429')).toBeGreaterThan(0);
  });
});
