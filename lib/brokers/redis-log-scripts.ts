import { script } from './redis-script.js';

/*
 * The steps of a channel's log. Its meta is a hash: epoch `e`, offset `o` and tag `t` of the top, time to live `l`; `h` is
 * there while the stream is the log's end without a gap; idempotency keys `k:<key>` → `<until> <offset>-<tag>`, their
 * number `n`, and `q`, when to look for old ones.
 *
 * A stream that has expired, or that Redis evicted, reads as one whose entries were trimmed. Whatever fails inside a
 * script fails at its first write, so that a script is applied whole or not at all.
 */

/** Idempotency keys that a channel remembers; up to `KEY_SLACK` more are kept, so that one look drops many. */
const MAX_KEYS = 1_000;
export const KEY_SLACK = 256;
const KEY_TTL_MS = 300_000;

/** `open(key, epoch, ttl)` finds a log or begins one, and counts as a use. Drops old idempotency keys when it is time. */
const OPEN = `
local function prune(key, time)
  local fields = redis.call('HGETALL', key)
  local known = {}
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'k:' then
      local till, offset = string.match(fields[i + 1], '^(%d+) (%d+)')
      if tonumber(till) <= time then redis.call('HDEL', key, fields[i])
      else known[#known + 1] = { fields[i], tonumber(offset) } end
    end
  end
  table.sort(known, function(a, b) return a[2] > b[2] end)
  for i = ${MAX_KEYS + 1}, #known do redis.call('HDEL', key, known[i][1]) end
  if #known == 0 then redis.call('HDEL', key, 'n', 'q')
  else redis.call('HSET', key, 'n', math.min(#known, ${MAX_KEYS}), 'q', int(time + ${KEY_TTL_MS})) end
end
local function open(key, epoch, ttl)
  local meta = redis.call('HMGET', key, 'e', 'o', 't', 'l', 'h', 'q')
  if not meta[1] then
    redis.call('HSET', key, 'e', epoch, 'o', 0, 't', '0', 'l', ttl)
    redis.call('PEXPIRE', key, ttl)
    return epoch, 0, '0', false
  end
  redis.call('PEXPIRE', key, meta[4])
  if meta[6] then
    local time = now()
    if tonumber(meta[6]) <= time then prune(key, time) end
  end
  return meta[1], tonumber(meta[2]), meta[3], meta[5]
end`;

/**
 * Appends. KEYS: meta, and the stream where there is a history. ARGV: epoch of a new log, tag, tag in decimal, size,
 * ttlMs, metaTtlMs, count, lengths, body, the note behind a space or nothing, then one key per item if any has one: `k:…`,
 * or empty.
 * Answers `epoch offset tag` of the top before, then per item `+`, or the position of a known key.
 */
export const APPEND = script(`
${OPEN}
local key, stream = KEYS[1], KEYS[2]
local tag, size, ttl = ARGV[2], tonumber(ARGV[4]), ARGV[6]
local count, lengths, body = tonumber(ARGV[7]), ARGV[8], ARGV[9]
local keyed = #ARGV > 10
local meta = redis.call('HMGET', key, 'e', 'o', 't', 'l', 'h', 'q', 'n')
local epoch, offset, last = meta[1], tonumber(meta[2] or 0), meta[3] or '0'
local fresh = not epoch
if fresh then epoch = ARGV[1] end
local answer = epoch .. ' ' .. int(offset) .. ' ' .. last

local time = (keyed or meta[6]) and now()
local kept, keys = nil, {}
if keyed then
  kept = {}
  local seen, added, results, parts, sizes, at = {}, 0, {}, {}, {}, 1
  local i = 0
  for e, d, x in string.gmatch(lengths, '(%d+) (%d+) (%d+)') do
    i = i + 1
    local length = e + d + x
    local name = ARGV[10 + i]
    local known = seen[name]
    if not known and name ~= '' then
      local stored = redis.call('HGET', key, name)
      local till, position = string.match(stored or '', '^(%d+) (.*)$')
      if till and tonumber(till) > time then known = position end
    end
    if known then
      results[i] = known
    else
      added = added + 1
      results[i] = '+'
      parts[added] = string.sub(body, at, at + length - 1)
      sizes[added] = e .. ' ' .. d .. ' ' .. x
      if name ~= '' then
        local position = int(offset + added) .. '-' .. tag
        seen[name] = position
        keys[#keys + 1] = name
        keys[#keys + 1] = int(time + ${KEY_TTL_MS}) .. ' ' .. position
      end
    end
    at = at + length
  end
  answer = answer .. ' ' .. table.concat(results, ' ')
  count, lengths, body = added, table.concat(sizes, ' '), table.concat(parts)
end

if count > 0 then
  if size > 0 then
    if not meta[5] then redis.call('DEL', stream) end
    local at, id = 1, offset
    for e, d, x in string.gmatch(lengths, '(%d+) (%d+) (%d+)') do
      id = id + 1
      local data = at + e
      local exclude = data + d
      local entry = int(id) .. '-' .. ARGV[3]
      local event = string.sub(body, at, data - 1)
      at = exclude + x
      if x == '0' then redis.call('XADD', stream, entry, 'v', event, 'd', string.sub(body, data, exclude - 1))
      else
        redis.call('XADD', stream, entry, 'v', event, 'd', string.sub(body, data, exclude - 1),
          'x', string.sub(body, exclude, at - 1))
      end
    end
    if id > size then redis.call('XTRIM', stream, 'MAXLEN', '=', size + 1) end
    redis.call('PEXPIRE', stream, ARGV[5])
  end
  redis.call('PUBLISH', key, '1 ' .. epoch .. ' ' .. int(offset + 1) .. ' ' .. tag .. ' ' .. int(offset) .. '-' .. last ..
    ' ' .. count .. ' ' .. lengths .. ARGV[10] .. '\\n' .. body)
  redis.call('HSET', key, 'o', int(offset + count), 't', tag)
  if size > 0 and not meta[5] then redis.call('HSET', key, 'h', 1)
  elseif size == 0 and meta[5] then redis.call('HDEL', key, 'h') end
end
if fresh then redis.call('HSET', key, 'e', epoch, 'o', int(offset + count), 't', count > 0 and tag or '0', 'l', ttl)
elseif meta[4] ~= ttl then redis.call('HSET', key, 'l', ttl) end
redis.call('PEXPIRE', key, ttl)
if #keys > 0 then
  for i = 1, #keys, 200 do redis.call('HSET', key, unpack(keys, i, math.min(i + 199, #keys))) end
  local number = tonumber(meta[7] or 0) + #keys / 2
  redis.call('HSET', key, 'n', number)
  if not meta[6] then redis.call('HSET', key, 'q', int(time + ${KEY_TTL_MS})) end
  if number > ${MAX_KEYS + KEY_SLACK} then prune(key, time) end
end
if meta[6] and tonumber(meta[6]) <= time then prune(key, time) end
return answer
`);

/** Tops. KEYS: metas. ARGV: metaTtlMs of a new log, then the epoch of each new log. Answers `epoch-offset-tag` of each. */
export const TOPS = script(`
${OPEN}
local tops = {}
for i, key in ipairs(KEYS) do
  local epoch, offset, tag = open(key, ARGV[1 + i], ARGV[1])
  tops[i] = epoch .. '-' .. int(offset) .. '-' .. tag
end
return tops
`);

/**
 * Reads what follows a position. KEYS: meta, stream. ARGV: metaTtlMs and epoch of a new log; epoch, offset, tag and tag
 * in decimal of the position; limit + 1. Answers status, top, entries.
 */
export const READ = script(`
${OPEN}
local stream = KEYS[2]
local epoch, top, last, stored = open(KEYS[1], ARGV[2], ARGV[1])
local offset = tonumber(ARGV[4])
local status = 'ok'
local more = {}
if ARGV[3] ~= epoch then status = 'epoch'
elseif offset > top then status = 'diverged'
elseif offset == top and offset > 0 then
  if ARGV[5] ~= last then status = 'diverged' end
elseif top > 0 then
  local wanted = offset == 0 and '1' or ARGV[4]
  local entry = stored and redis.call('XRANGE', stream, wanted, wanted, 'COUNT', 1)[1]
  if not entry then status = 'trimmed'
  elseif offset > 0 and entry[1] ~= ARGV[4] .. '-' .. ARGV[6] then status = 'diverged'
  else more = redis.call('XRANGE', stream, int(offset + 1), '+', 'COUNT', ARGV[7]) end
end
return { status, epoch .. '-' .. int(top) .. '-' .. last, more }
`);

/** The newest entries, newest first. KEYS: meta, stream. ARGV: metaTtlMs and epoch of a new log, limit. */
export const NEWEST = script(`
${OPEN}
local epoch, top, last, stored = open(KEYS[1], ARGV[2], ARGV[1])
local entries = stored and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[3]) or {}
return { epoch .. '-' .. int(top) .. '-' .. last, entries }
`);
