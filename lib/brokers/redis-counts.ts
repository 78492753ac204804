import type { RedisCommands } from './redis-commands.js';
import type { RedisKeys } from './redis-keys.js';
import { script } from './redis-script.js';

/** How long a count is kept that nobody writes again, ms: what a node left behind that nobody could claim. */
const COUNT_TTL_MS = 86_400_000;

/** Writes a node's count. KEYS: counts of a subject. ARGV: node, count, ms to keep it. */
const WRITE = script(`
if ARGV[2] == '0' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
`);

/**
 * How many connections each address and user has on each node. What is written is the number, not a change of it, so
 * that it may be written again; the last one counts. What could not be written is written with the next change or flush.
 */
export class RedisCounts {
  private counts = new Map<string, number>();
  private dirty = new Set<string>();

  constructor(
    private readonly commands: RedisCommands,
    private readonly keys: RedisKeys,
    private node: string,
  ) {}

  /** Counts a connection more or less; `write` tells Redis. */
  change(subjects: readonly string[], by: 1 | -1): void {
    for (const subject of subjects) {
      const count = (this.counts.get(subject) ?? 0) + by;
      if (count > 0) this.counts.set(subject, count);
      else this.counts.delete(subject);
      this.dirty.add(subject);
    }
  }

  /** Writes what has changed. */
  async write(): Promise<void> {
    const subjects = [...this.dirty];
    this.dirty.clear();
    await Promise.all(
      subjects.map((subject) =>
        this.set(subject, this.node, this.counts.get(subject) ?? 0).catch((error: unknown) => {
          this.dirty.add(subject);
          throw error;
        }),
      ),
    );
  }

  /** What all other nodes have. */
  elsewhere(subjects: readonly string[]): Promise<number[]> {
    return Promise.all(
      subjects.map(async (subject) => {
        const key = this.keys.counts(subject);
        const byNode = await this.commands.call(({ redis }) => redis.hgetall(key), { effect: 'read' });
        return Object.entries(byNode).reduce(
          (sum, [node, count]) => (node === this.node ? sum : sum + Number(count)),
          0,
        );
      }),
    );
  }

  /** A dead node has none any more. */
  async drop(subjects: readonly string[], node: string): Promise<void> {
    await Promise.all(subjects.map((subject) => this.set(subject, node, 0)));
  }

  /** Notes everything to be written again. */
  restore(): void {
    for (const subject of this.counts.keys()) this.dirty.add(subject);
  }

  /** Forgets everything: the node goes on under another name. */
  reset(node: string): void {
    this.node = node;
    this.counts = new Map();
    this.dirty = new Set();
  }

  /** Takes this node's counts from Redis. */
  async clear(): Promise<void> {
    const subjects = [...this.counts.keys()];
    this.reset(this.node);
    await this.drop(subjects, this.node);
  }

  private async set(subject: string, node: string, count: number): Promise<void> {
    const key = this.keys.counts(subject);
    await this.commands.run(WRITE, [key], [node, count, COUNT_TTL_MS], { effect: 'repeat', order: key });
  }
}
