-- The budget of a day over all machines, in whole billionths of a dollar. One call is atomic.
-- KEYS: the record. ARGV: what to do (reserve, settle or look), day, token of the reservation, amount to reserve, what
-- was really spent, limit; life of the record, its count of changes and what was used, as the caller heard them last; a
-- new life, how long a new record settles, the oldest day to keep.
-- Returns what became of it (ok, full or hold), the life, a count of changes, what is spent, what is reserved, and for
-- how many seconds nothing is reserved yet.

local RECORD = KEYS[1]
local what, day, token = ARGV[1], ARGV[2], ARGV[3]
local amount, actual, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local life_then, changes_then, used_then = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local new_life, settling, oldest = ARGV[10], tonumber(ARGV[11]), ARGV[12]

local BASE, SPENT, RESERVED = day .. ' base', day .. ' spent', day .. ' reserved'
local CLAIM = day .. ' claim ' .. token

local function value(field) return tonumber(redis.call('HGET', RECORD, field) or 0) end
local function add(field, by) redis.call('HINCRBY', RECORD, field, string.format('%.0f', by)) end

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local life = redis.call('HGET', RECORD, 'life')
if life and life == life_then and value('changes') < changes_then then
  -- A server that went back to an older state, from a snapshot or a replica. What it still has counts as used.
  redis.call('HSET', RECORD, BASE, string.format('%.0f', value(BASE) + value(SPENT) + value(RESERVED)))
  redis.call('HDEL', RECORD, SPENT, RESERVED)
  for _, field in ipairs(redis.call('HKEYS', RECORD)) do
    if string.sub(field, 1, #day + 7) == day .. ' claim ' then redis.call('HDEL', RECORD, field) end
  end
  life = nil
end
if not life then
  -- The first use, or a server that has lost something: who remembers what was used has a while to say so.
  life = new_life
  redis.call('HSET', RECORD, 'life', life, 'open_at', string.format('%.6f', now + settling))
end
if redis.call('HEXISTS', RECORD, BASE) == 0 then
  redis.call('HSET', RECORD, BASE, 0)
  for _, field in ipairs(redis.call('HKEYS', RECORD)) do
    if string.match(field, '^%d%d%d%d%-') and string.sub(field, 1, 10) < oldest then
      redis.call('HDEL', RECORD, field)
    end
  end
end
if life_then ~= '' and life_then ~= life and used_then > value(BASE) then
  redis.call('HSET', RECORD, BASE, string.format('%.0f', used_then))
end

local became, wait = 'ok', value('open_at') - now
-- Longer than it settles is only a clock that went back.
if wait > settling then wait = 0 end
local held = token ~= '' and redis.call('HGET', RECORD, CLAIM)
if what == 'reserve' and not held then
  if wait > 0 then
    became = 'hold'
  elseif value(BASE) + value(SPENT) + value(RESERVED) + amount > limit then
    became = 'full'
  else
    redis.call('HSET', RECORD, CLAIM, string.format('%.0f', amount))
    add(RESERVED, amount)
  end
elseif what == 'settle' and held then
  redis.call('HDEL', RECORD, CLAIM)
  add(RESERVED, -tonumber(held))
  add(SPENT, actual)
end
local changes = redis.call('HINCRBY', RECORD, 'changes', 1)
local spent = string.format('%.0f', value(BASE) + value(SPENT))
return {became, life, changes, spent, redis.call('HGET', RECORD, RESERVED) or '0', string.format('%.3f', math.max(0, wait))}
