import { script } from './redis-script.js';

/*
 * The members of a channel are one hash: `v` revision, `n` number of members, `c:<connection>` → `<due> <node> <member>`
 * with `-` for no departure, `m:<member>` → `<connections> <departing> <info>`. A hash that nobody is in stays for a day,
 * for its revision; a new one begins with the time in ms, which is above every revision that was ever given.
 *
 * Each script is one change of the members, announced on the channel's name as `p` and JSON.
 */

const EMPTY_TTL_MS = 86_400_000;

const MEMBERS = `
local function member(id)
  local value = redis.call('HGET', KEYS[1], 'm:' .. id)
  if not value then return nil end
  local places, departing, info = string.match(value, '^(%d+) (%d+) (.*)$')
  return { id = id, places = tonumber(places), departing = tonumber(departing), info = info }
end
local function keep(m) redis.call('HSET', KEYS[1], 'm:' .. m.id, m.places .. ' ' .. m.departing .. ' ' .. m.info) end
local function place(connection)
  local value = redis.call('HGET', KEYS[1], 'c:' .. connection)
  if not value then return nil end
  local due, node, id = string.match(value, '^(%S+) (%S*) (.*)$')
  return { due = due ~= '-' and tonumber(due) or nil, node = node, member = id }
end
local joined, left = {}, {}
local function remove(connection, p)
  redis.call('HDEL', KEYS[1], 'c:' .. connection)
  local m = member(p.member)
  if p.due then m.departing = m.departing - 1 end
  m.places = m.places - 1
  if m.places > 0 then keep(m)
  else
    redis.call('HDEL', KEYS[1], 'm:' .. m.id)
    left[#left + 1] = cjson.encode(m.id)
  end
end
local function commit(name, arrived)
  if #joined + #left == 0 then return end
  local state = redis.call('HMGET', KEYS[1], 'v', 'n')
  local rev = state[1] and tonumber(state[1]) + 1 or now()
  local count = tonumber(state[2] or 0) + arrived - #left
  redis.call('HSET', KEYS[1], 'v', int(rev), 'n', count)
  if count > 0 then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ${EMPTY_TTL_MS}) end
  redis.call('PUBLISH', name, 'p{"rev":' .. int(rev) .. ',"count":' .. count .. ',"joined":[' ..
    table.concat(joined, ',') .. '],"left":[' .. table.concat(left, ',') .. ']}')
end`;

/** Adds a connection, or renews it. ARGV: name, connection, member, info as JSON, node. */
export const JOIN = script(`
${MEMBERS}
local connection, id, info = ARGV[2], ARGV[3], ARGV[4]
local m = member(id)
local arrived = 0
local told = not m or m.info ~= info
if not m then
  m = { id = id, places = 0, departing = 0 }
  arrived = 1
end
m.info = info
local p = place(connection)
if p and p.member == id then
  if p.due then m.departing = m.departing - 1 end
else
  m.places = m.places + 1
end
keep(m)
if p and p.member ~= id then remove(connection, p) end
redis.call('HSET', KEYS[1], 'c:' .. connection, '- ' .. ARGV[5] .. ' ' .. id)
if told then joined[1] = '{"id":' .. cjson.encode(id) .. ',"info":' .. info .. '}' end
commit(ARGV[1], arrived)
`);

/**
 * Removes connections. ARGV: name, whose, graceMs, connections. `whose`: `any`; `due`, those whose departure is due; or
 * `of <node>`, those that a node has, where one that has a departure keeps it until it is due. Answers when the last of
 * those that stay departs, or 0.
 */
export const LEAVE = script(`
${MEMBERS}
local whose, grace = ARGV[2], tonumber(ARGV[3])
local time = now()
local due = 0
for i = 4, #ARGV do
  local p = place(ARGV[i])
  local later = p and p.due and p.due > time
  if p and whose == 'of ' .. p.node and later then due = math.max(due, p.due)
  elseif p and (whose == 'any' or whose == 'due' and p.due and not later or whose == 'of ' .. p.node) then
    if grace == 0 then remove(ARGV[i], p)
    else
      if not p.due then
        local m = member(p.member)
        m.departing = m.departing + 1
        keep(m)
      end
      p.due = math.min(p.due or time + grace, time + grace)
      due = math.max(due, p.due)
      redis.call('HSET', KEYS[1], 'c:' .. ARGV[i], int(p.due) .. ' ' .. p.node .. ' ' .. p.member)
    end
  end
end
commit(ARGV[1], 0)
return int(due)
`);
