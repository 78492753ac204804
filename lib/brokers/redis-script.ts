import { createHash } from 'node:crypto';

/** A Lua script, with the digest by which Redis knows it. */
export interface RedisScript {
  readonly source: string;
  readonly sha: string;
}

/** Makes a script. `now` stands for the broker's time in ms: what decides is its clock, never a node's. */
export function script(source: string): RedisScript {
  const whole = `${LIBRARY}\n${source.trim()}`;
  return { source: whole, sha: createHash('sha1').update(whole).digest('hex') };
}

/** The same script for Redis Cluster, where an announcement stays within its shard. */
export function sharded({ source }: RedisScript): RedisScript {
  const whole = source.replaceAll("call('PUBLISH'", "call('SPUBLISH'");
  return { source: whole, sha: createHash('sha1').update(whole).digest('hex') };
}

/** Offsets and times are above what Lua prints of a number by itself. */
const LIBRARY = `
local function int(n) return string.format('%.0f', n) end
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end`.trim();
