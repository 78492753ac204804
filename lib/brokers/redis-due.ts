import type { RedisCommands } from './redis-commands.js';
import { script } from './redis-script.js';

const ADD = script(`
redis.call('ZADD', KEYS[1], int(now() + tonumber(ARGV[1])), ARGV[2])
`);

/** ARGV: at most how many, for how long. Answers until when they are taken, and the members. */
const TAKE = script(`
local time = now()
local taken = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(time), 'LIMIT', 0, ARGV[1])
local till = int(time + tonumber(ARGV[2]))
for _, member in ipairs(taken) do redis.call('ZADD', KEYS[1], till, member) end
return { till, taken }
`);

/** ARGV: until when they were taken, members. */
const FORGET = script(`
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[1] then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
`);

/** What one call takes: done with by {@link RedisDue.forget}, or due again at `till`. */
export interface Taken {
  readonly till: string;
  readonly members: readonly string[];
}

/**
 * Things that are due at a time, for all nodes: a sorted set. Whoever takes some has a while for them; if it dies, others
 * take them. What is added anew meanwhile is not forgotten.
 */
export class RedisDue {
  constructor(
    private readonly commands: RedisCommands,
    private readonly key: string,
  ) {}

  /** Adds one, due at a time of Redis's clock, instead of the time it had. */
  async addAt(at: string, member: string): Promise<void> {
    await this.commands.call(({ redis }) => redis.zadd(this.key, at, member), { effect: 'repeat', order: this.key });
  }

  /** Adds one, due after a while. */
  async addAfter(delayMs: number, member: string): Promise<void> {
    await this.commands.run(ADD, [this.key], [delayMs, member], { effect: 'repeat', order: this.key });
  }

  /** Takes what is due, at most so many, for a while. */
  async take(count: number, forMs: number): Promise<Taken> {
    const answer = await this.commands.run(TAKE, [this.key], [count, forMs], { effect: 'repeat' });
    const [till, members] = answer as [string, string[]];
    return { till, members };
  }

  /** Forgets what was taken. */
  async forget(till: string, members: readonly string[]): Promise<void> {
    if (members.length === 0) return;
    await this.commands.run(FORGET, [this.key], [till, ...members], { effect: 'repeat' });
  }
}
