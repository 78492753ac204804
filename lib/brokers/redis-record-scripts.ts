import { MAX_INBOX_BYTES, MAX_INBOX_ENTRIES, TOMBSTONE_MS } from '../hub/ports/records.js';
import { ERRORS } from '../protocol/errors.js';
import { script } from './redis-script.js';

/*
 * The record of a connection. It is a hash: `o` origin and, of its state, `c` client, `u` user, `d` data, `f` the end of
 * credentials that was asked about; `n` session and `N` node of the newest link, `l` its number; `t` the deadline or, where
 * it is over, the end of the claim; `x` the next slot, `s:<channel>` → `<slot> <1: trusted> <start>`; `i` and `b` number of
 * the newest frame and bytes of the inbox; `q`, `h`, `A` number, hash and attempt of the frames that were run last, `p`
 * those that are being run: `<seq> <until> <attempt> <hash>`; `r:<call>` → `<until> <seq> <attempt> <session>`, until 0 where it has
 * ended before its number was committed; `v` how it
 * ended, `e` the call that ended it, `w` how often it was claimed, `z` that its hooks have run.
 *
 * KEYS are the record, its inbox (a list of `<n> <text>`), and what a script names besides; all are in one slot.
 */

/** How long a record is kept that nobody looks after any more, ms: past its deadline. */
const FORGOTTEN_MS = 86_400_000;
const LOST = `,"error":{"code":"outcome_unknown","message":${JSON.stringify(ERRORS.outcome_unknown.message)}}}`;

const RECORD = `
local R, I = KEYS[1], KEYS[2]
local function get(field) return redis.call('HGET', R, field) end
local function live()
  local found = redis.call('HMGET', R, 'o', 'v')
  return found[1] and not found[2]
end
local function due(at)
  redis.call('HSET', R, 't', int(at))
  redis.call('PEXPIREAT', R, int(at + ${FORGOTTEN_MS}))
  redis.call('PEXPIREAT', I, int(at + ${FORGOTTEN_MS}))
end
local function append(text)
  local n = redis.call('HINCRBY', R, 'i', 1)
  redis.call('HINCRBY', R, 'b', #text)
  redis.call('RPUSH', I, n .. ' ' .. text)
end
local function acknowledge(number)
  while true do
    local first = redis.call('LINDEX', I, 0)
    local n, text = string.match(first or '', '^(%d+) (.*)$')
    if not n or tonumber(n) > tonumber(number) then return end
    redis.call('LPOP', I)
    redis.call('HINCRBY', R, 'b', -#text)
  end
end`;

/** Writes a new record. KEYS: …, the records in the partition. ARGV: id, forMs, then fields and values. */
export const CREATE = script(`
${RECORD}
redis.call('HSET', R, unpack(ARGV, 3))
redis.call('SADD', KEYS[3], ARGV[1])
due(now() + tonumber(ARGV[2]))
`);

const VIEW = `
local function give_up_calls()
  local done = tonumber(get('q') or 0)
  local fields = redis.call('HGETALL', R)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'r:' then
      local till, seq = string.match(fields[i + 1], '^(%d+) (%d+)')
      if tonumber(till) <= now() and tonumber(seq) <= done then
        redis.call('HDEL', R, fields[i])
        append('{"id":' .. string.sub(fields[i], 3) .. '${LOST.replaceAll("'", "\\'")}')
      end
    end
  end
end
local function view(link, acknowledged, for_ms)
  if not get('o') then return {} end
  local newest = get('l') or '0'
  if not get('v') and newest == link then
    due(now() + tonumber(for_ms))
    acknowledge(acknowledged)
    give_up_calls()
  end
  return { redis.call('HGETALL', R), redis.call('LRANGE', I, 0, -1) }
end`;

/**
 * Attaches a link. ARGV: session, node, acknowledged, forMs. Answers the fields, the inbox, and the session that had the
 * link before.
 */
export const ATTACH = script(`
${RECORD}
${VIEW}
local former = ''
if live() then
  redis.call('HINCRBY', R, 'l', 1)
  former = get('n') or ''
  redis.call('HSET', R, 'n', ARGV[1], 'N', ARGV[2])
end
local found = view(get('l'), ARGV[3], ARGV[4])
found[3] = former
return found
`);

/** ARGV: link, acknowledged, forMs. Answers the fields and the inbox. */
export const LOOK = script(`
${RECORD}
${VIEW}
return view(ARGV[1], ARGV[2], ARGV[3])
`);

/** ARGV: the number of the newest frame that has arrived. */
export const ACKNOWLEDGE = script(`
${RECORD}
if live() then acknowledge(ARGV[1]) end
`);

/** ARGV: link, forMs. */
export const DETACH = script(`
${RECORD}
if live() and get('l') == ARGV[1] then due(now() + tonumber(ARGV[2])) end
`);

/** ARGV: fields and values. Answers the session that has the link. */
export const WRITE = script(`
${RECORD}
if not live() then return '' end
redis.call('HSET', R, unpack(ARGV))
return get('n') or ''
`);

/** ARGV: channel, trusted, start. Answers the slot and the session that has the link; nothing where the record is over. */
export const ENTER = script(`
${RECORD}
if not live() then return {} end
local known = get('s:' .. ARGV[1])
if known then return { string.match(known, '^%d+'), '' } end
local slot = redis.call('HINCRBY', R, 'x', 1) - 1
redis.call('HSET', R, 's:' .. ARGV[1], int(slot) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return { int(slot), get('n') or '' }
`);

/** ARGV: channel. Answers the session that has the link, where it is to be told. */
export const LEAVE = script(`
${RECORD}
if live() and redis.call('HDEL', R, 's:' .. ARGV[1]) == 1 then return get('n') or '' end
return ''
`);

/** ARGV: text, call, attempt, 1 if the last, of each frame. Answers the outcome, and the session that has the link. */
export const PUSH = script(`
${RECORD}
if not live() then return { 'gone', '' } end
local wanted, bytes = {}, 0
for i = 1, #ARGV, 4 do
  local noted = true
  if ARGV[i + 1] ~= '' then
    local till, attempt = string.match(get('r:' .. ARGV[i + 1]) or '', '^(%d+) %d+ (%S+)')
    noted = attempt == ARGV[i + 2] and till ~= '0'
  end
  if noted then
    wanted[#wanted + 1] = i
    bytes = bytes + #ARGV[i]
  end
end
if redis.call('LLEN', I) + #wanted > ${MAX_INBOX_ENTRIES} or tonumber(get('b') or 0) + bytes > ${MAX_INBOX_BYTES} then
  return { 'full', '' }
end
for _, i in ipairs(wanted) do
  append(ARGV[i])
  if ARGV[i + 1] ~= '' and ARGV[i + 3] == '1' then
    local field = 'r:' .. ARGV[i + 1]
    local seq, rest = string.match(get(field), '^%d+ (%d+) (.*)$')
    if tonumber(seq) > tonumber(get('q') or 0) then redis.call('HSET', R, field, '0 ' .. seq .. ' ' .. rest)
    else redis.call('HDEL', R, field) end
  end
end
if #wanted == 0 then return { 'pushed', '' } end
redis.call('PEXPIREAT', I, int(tonumber(get('t')) + ${FORGOTTEN_MS}))
return { 'pushed', get('n') or '' }
`);

/** Begins a number. KEYS: …, answers. ARGV: seq, hash, attempt, forMs. Answers the verdict and what belongs to it. */
export const BEGIN = script(`
${RECORD}
if not live() then return { 'gone', '' } end
local seq, time = tonumber(ARGV[1]), now()
local done = tonumber(get('q') or 0)
if seq == done then
  if get('h') ~= ARGV[2] then return { 'mismatch', '' } end
  return { 'done', redis.call('GET', KEYS[3]) or '[]' }
end
if seq ~= done + 1 then return { 'sequence', int(done + 1) } end
local _, till, attempt, hash = string.match(get('p') or '', '^(%d+) (%d+) (%S+) (%S+)$')
if hash and hash ~= ARGV[2] then return { 'mismatch', '' } end
if till and tonumber(till) > time and attempt ~= ARGV[3] then return { 'in_progress', '' } end
redis.call('HSET', R, 'p', ARGV[1] .. ' ' .. int(time + tonumber(ARGV[4])) .. ' ' .. ARGV[3] .. ' ' .. ARGV[2])
if not attempt or attempt == ARGV[3] then return { 'run', redis.call('HGETALL', R) } end
local fields, ended = redis.call('HGETALL', R), {}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) == 'r:' then
    local ends, of = string.match(fields[i + 1], '^(%d+) (%d+)')
    if of == ARGV[1] and ends == '0' then ended[#ended + 1] = string.sub(fields[i], 3)
    elseif of == ARGV[1] then redis.call('HDEL', R, fields[i]) end
  end
end
return { 'again', redis.call('HGETALL', R), ended }
`);

/** ARGV: seq, hash, attempt, forMs. Answers whether it is still this attempt's. */
export const EXTEND = script(`
${RECORD}
if not live() then return 0 end
local attempt = string.match(get('p') or '', '^%d+ %d+ (%S+)')
if attempt ~= ARGV[3] then return 0 end
redis.call('HSET', R, 'p', ARGV[1] .. ' ' .. int(now() + tonumber(ARGV[4])) .. ' ' .. ARGV[3] .. ' ' .. ARGV[2])
return 1
`);

/** KEYS: …, answers. ARGV: seq, attempt, answers. Answers whether they are stored. */
export const COMMIT = script(`
${RECORD}
if not live() then return 0 end
if get('q') == ARGV[1] and get('A') == ARGV[2] then return 1 end
local seq, _, attempt, hash = string.match(get('p') or '', '^(%d+) (%d+) (%S+) (%S+)$')
if seq ~= ARGV[1] or attempt ~= ARGV[2] then return 0 end
redis.call('HDEL', R, 'p')
local fields = redis.call('HGETALL', R)
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) == 'r:' and string.sub(fields[i + 1], 1, 2) == '0 ' then
    redis.call('HDEL', R, fields[i])
  end
end
redis.call('HSET', R, 'q', seq, 'h', hash, 'A', attempt)
redis.call('SET', KEYS[3], ARGV[3], 'PX', ${FORGOTTEN_MS})
return 1
`);

/** ARGV: call, seq, attempt, session, forMs. Answers whether it is noted. */
export const NOTE = script(`
${RECORD}
if not live() then return 0 end
local ends, known = string.match(get('r:' .. ARGV[1]) or '', '^(%d+) %d+ (%S+)')
if ends == '0' then return 0 end
local running = string.match(get('p') or '', '^%d+ %d+ (%S+)')
if known ~= ARGV[3] and running ~= ARGV[3] then return 0 end
local till = int(now() + tonumber(ARGV[5]))
redis.call('HSET', R, 'r:' .. ARGV[1], till .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return 1
`);

/** ARGV: call. Answers the session that runs it. */
export const RUNNER = script(`
${RECORD}
return string.match(get('r:' .. ARGV[1]) or '', '(%S+)$') or ''
`);

/**
 * Ends a record. KEYS: …, the records in the partition. ARGV: id, how it ended, what names this call, forMs. Answers the
 * fields, and the session that has the link; nothing where it had ended before.
 */
export const END = script(`
${RECORD}
if not get('o') then return {} end
if get('v') then
  if get('e') ~= ARGV[3] then return {} end
else
  redis.call('HSET', R, 'v', ARGV[2], 'e', ARGV[3], 'w', 1)
  redis.call('SREM', KEYS[3], ARGV[1])
  due(now() + tonumber(ARGV[4]))
end
return { redis.call('HGETALL', R), get('n') or '' }
`);

/**
 * Claims a record, if it is time. KEYS: …, the records in the partition. ARGV: id, how it ended, forMs. Answers `claimed`,
 * fields and session; `later`, fields and when; or `gone`.
 */
export const CLAIM = script(`
${RECORD}
if not get('o') or get('z') then return { 'gone' } end
local at = tonumber(get('t'))
if at > now() then return { 'later', redis.call('HGETALL', R), int(at) } end
if not get('v') then redis.call('HSET', R, 'v', ARGV[2]) end
redis.call('HINCRBY', R, 'w', 1)
redis.call('SREM', KEYS[3], ARGV[1])
due(now() + tonumber(ARGV[3]))
return { 'claimed', redis.call('HGETALL', R), get('n') or '' }
`);

/** The hooks have run: what remains tells how it ended. KEYS: …, answers. */
export const SETTLE = script(`
${RECORD}
local kept = redis.call('HMGET', R, 'o', 'v')
if not kept[1] or not kept[2] then return end
redis.call('DEL', R, I, KEYS[3])
redis.call('HSET', R, 'o', kept[1], 'v', kept[2], 'z', 1)
redis.call('PEXPIRE', R, ${TOMBSTONE_MS})
`);

/** Notes that a subject has a record. KEYS: its records. ARGV: id, after how long it does not count, ms. */
export const COUNT_ONE = script(`
local time = now()
redis.call('ZADD', KEYS[1], int(time), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(time - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
`);

/** The records of a subject. KEYS: its records. ARGV: after how long they do not count, ms. */
export const COUNTED = script(`
return redis.call('ZRANGEBYSCORE', KEYS[1], int(now() - tonumber(ARGV[1])), '+inf')
`);
