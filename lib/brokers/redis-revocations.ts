import { MAX_REVOCATIONS, revocationKey, tooManyRevocations, type Revocation } from '../hub/ports/revocation.js';
import type { RedisCommands } from './redis-commands.js';
import type { RedisKeys } from './redis-keys.js';
import { script } from './redis-script.js';

/** Revocations in one call. */
const PAGE = 500;

/**
 * KEYS: sorted set of names by the time until which they are needed, hash of the time before which a user's tokens are
 * meant. ARGV: how many there may be, then name, until, before of each; of a token before is empty. Answers 0 where there
 * are too many: nothing is written then.
 */
const WRITE = script(`
local untils, befores = KEYS[1], KEYS[2]
local time = now()
local over = redis.call('ZRANGEBYSCORE', untils, '-inf', int(time), 'LIMIT', 0, ${PAGE})
for _, name in ipairs(over) do
  redis.call('ZREM', untils, name)
  redis.call('HDEL', befores, name)
end
local seen, added = {}, 0
for i = 2, #ARGV, 3 do
  if not seen[ARGV[i]] and not redis.call('ZSCORE', untils, ARGV[i]) then added = added + 1 end
  seen[ARGV[i]] = true
end
if added > 0 and redis.call('ZCARD', untils) + added > tonumber(ARGV[1]) then return 0 end
for i = 2, #ARGV, 3 do
  local name, till, before = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  if till > time then
    redis.call('ZADD', untils, 'GT', int(till), name)
    if before ~= '' and tonumber(redis.call('HGET', befores, name) or '-1') < tonumber(before) then
      redis.call('HSET', befores, name, before)
    end
  end
end
local last = redis.call('ZREVRANGE', untils, 0, 0, 'WITHSCORES')[2]
if last then
  redis.call('PEXPIREAT', untils, last)
  redis.call('PEXPIREAT', befores, last)
end
return 1
`);

/**
 * KEYS as above. ARGV: ranks of the first and the last to answer. From the last to end on, so that those that end
 * meanwhile do not shift the rest. Answers name, until, before of each.
 */
const READ = script(`
local time = now()
local found = redis.call('ZREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
local answer = {}
for i = 1, #found, 2 do
  if tonumber(found[i + 1]) <= time then break end
  answer[#answer + 1] = found[i]
  answer[#answer + 1] = found[i + 1]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], found[i]) or ''
end
return answer
`);

/** What is revoked, in Redis. */
export class RedisRevocations {
  private readonly keysOf: readonly string[];

  constructor(
    private readonly commands: RedisCommands,
    { revoked, revokedBefore }: RedisKeys,
  ) {
    this.keysOf = [revoked, revokedBefore];
  }

  async write(revocations: readonly Revocation[]): Promise<void> {
    for (let i = 0; i < revocations.length; i += PAGE) {
      const args = revocations.slice(i, i + PAGE).flatMap((revocation) => {
        const before = 'token' in revocation ? '' : revocation.before;
        return [revocationKey(revocation), revocation.until, before];
      });
      const bytes = args.reduce<number>((sum, arg) => sum + String(arg).length, 0);
      const written = await this.commands.run(WRITE, this.keysOf, [MAX_REVOCATIONS, ...args], {
        effect: 'repeat',
        bytes,
      });
      if (written !== 1) throw tooManyRevocations();
    }
  }

  async all(): Promise<Revocation[]> {
    const found: Revocation[] = [];
    for (let page = PAGE, passed = 0; page === PAGE; passed += page) {
      const answer = await this.commands.run(READ, this.keysOf, [passed, passed + PAGE - 1], { effect: 'read' });
      const texts = answer as string[];
      for (let i = 0; i < texts.length; i += 3) found.push(parse(texts[i]!, texts[i + 1]!, texts[i + 2]!));
      page = texts.length / 3;
    }
    return found;
  }
}

function parse(name: string, until: string, before: string): Revocation {
  const id = name.slice(2);
  return name.startsWith('t:')
    ? { token: id, until: Number(until) }
    : { user: id, until: Number(until), before: Number(before) };
}
