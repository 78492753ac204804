import { script } from './redis-script.js';

/*
 * Leases. A node that is alive says so in `nodes`; one that does not is marked dead there, for good: it learns so from
 * its next beat, as marking and beating touch one key. Its connections are then moved to `claims`, one partition at a
 * time, each into the hands of the node that claims it.
 */

/** How long a mark of death is kept: a process that was stopped for longer would not know that it was given up. */
const MARK_TTL_MS = 604_800_000;

/**
 * A beat. KEYS: nodes. ARGV: node. Answers `held`, `new` where nothing was known of the node, or `dead`; and which
 * Redis process it was.
 */
export const BEAT = script(`
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if known and tonumber(known) < 0 then return { 'dead', '' } end
redis.call('ZADD', KEYS[1], int(now()), ARGV[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
return { known and 'held' or 'new', run }
`);

/** The nodes that live. KEYS: nodes. ARGV: leaseMs. */
export const LIVE_NODES = script(`
return redis.call('ZRANGEBYSCORE', KEYS[1], int(now() - tonumber(ARGV[1])), '+inf')
`);

/**
 * Looks for dead nodes, unless Redis was away: then every node looks dead, and has a lease's time to beat again.
 * KEYS: nodes, watch, dead. ARGV: leaseMs. Answers whether it looked, then the dead nodes whose connections are to be
 * claimed, each followed by how long ago it was marked.
 */
export const SWEEP = script(`
local time, lease = now(), tonumber(ARGV[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local seen = redis.call('HMGET', KEYS[2], 'tick', 'run', 'from')
local from = tonumber(seen[3] or 0)
if not seen[1] or time - tonumber(seen[1]) > lease / 2 or seen[2] ~= run then from = time + lease end
redis.call('HSET', KEYS[2], 'tick', int(time), 'run', run, 'from', int(from))
if time < from then return { 0, {} } end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '(' .. int(time - lease))) do
  redis.call('ZADD', KEYS[1], '-' .. int(time), node)
  redis.call('ZADD', KEYS[3], int(time), node)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-' .. int(time - ${MARK_TTL_MS}), '(0')
local dead = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
for i = 2, #dead, 2 do dead[i] = int(time - tonumber(dead[i])) end
return { 1, dead }
`);

/**
 * Claims connections of a dead node. KEYS: its connections in a partition, claims. ARGV: for how long, at most how many.
 * Answers the records.
 */
export const CLAIM = script(`
local till = int(now() + tonumber(ARGV[1]))
local records = {}
local found = redis.call('HGETALL', KEYS[1])
for i = 1, math.min(#found, 2 * tonumber(ARGV[2])), 2 do
  redis.call('HSET', KEYS[2], found[i], till .. ' 1 ' .. found[i + 1])
  redis.call('HDEL', KEYS[1], found[i])
  records[#records + 1] = '1 ' .. found[i + 1]
end
return records
`);

/**
 * Claims connections whose claimer died as well. KEYS: claims. ARGV: for how long, at most how many. Answers how many
 * claims there are, and `attempt record` of each that was claimed.
 */
export const RECLAIM = script(`
local time = now()
local till = int(time + tonumber(ARGV[1]))
local records = {}
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  local claimed, attempt, record = string.match(found[i + 1], '^(%d+) (%d+) (.*)$')
  if tonumber(claimed) <= time and #records < tonumber(ARGV[2]) then
    attempt = int(attempt + 1)
    redis.call('HSET', KEYS[1], found[i], till .. ' ' .. attempt .. ' ' .. record)
    records[#records + 1] = attempt .. ' ' .. record
  end
end
return { #found / 2, records }
`);

/** Records that contain a text. KEYS: connections of a node in a partition. ARGV: text, or empty for all. */
export const FIND = script(`
local records = redis.call('HVALS', KEYS[1])
if ARGV[1] == '' then return records end
local found = {}
for _, record in ipairs(records) do
  if string.find(record, ARGV[1], 1, true) then found[#found + 1] = record end
end
return found
`);
