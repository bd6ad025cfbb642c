-- One visit of one process to the limits that machines share. The server runs nothing else meanwhile, so it is atomic.
-- The arithmetic is that of sharing.py and shared_limits.py; tests/sharing hold both to the same results.
-- KEYS: id, settings, leases, demands, holdings, pools, pauses, errors. ARGV: the visit, as JSON. Returns JSON.

local ID, SETTINGS, LEASES, DEMANDS, HOLDINGS, POOLS, PAUSES, ERRORS = unpack(KEYS)
local KINDS = {'requests', 'input_tokens', 'output_tokens'}
local UPWARD_GAIN = 0.5
local LIMIT_LIFETIME_SECONDS = 600
local TURN_SECONDS = 2
-- What nobody uses any more goes by itself; what the user has set stays.
local KEPT_SECONDS = 604800
-- Sums that are kept up over many visits are off by less than this.
local NOTHING = 1e-6
-- Stands for a wait without an end, which JSON cannot write.
local LONGEST_SECONDS = 1e9

local told = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = told.now or (time[1] + time[2] / 1000000)
local me = told.lease_id

local function all(key)
  local flat, found = redis.call('HGETALL', key), {}
  for index = 1, #flat, 2 do found[flat[index]] = flat[index + 1] end
  return found
end

local function stored(key, field)
  local text = redis.call('HGET', key, field)
  return text and cjson.decode(text)
end

local function store(key, field, value) redis.call('HSET', key, field, cjson.encode(value)) end

-- What every visit reads of all processes is short, so that a visit stays cheap with hundreds of them.
-- Demands: 'seen_at demand places machine' by lease, with -1 for no bound on places.
local demands = {}
for lease_id, text in pairs(all(DEMANDS)) do
  local seen_at, demand, places, machine = string.match(text, '^(%S+) (%S+) (%S+) (.*)$')
  demands[lease_id] = {seen_at = tonumber(seen_at), demand = tonumber(demand), places = tonumber(places), machine = machine}
end

-- Pools of a class by kind: {limit, level, corrected, updated_at, reported_at, claim, demand}, without a limit where
-- none is known. The last two are the sums of what all processes claim and demand.

-- Take what a process has of a class out of the sums.
local function withdraw(pools, holding)
  for _, kind in ipairs(KINDS) do
    local pool = pools[kind]
    pool.claim, pool.demand = pool.claim - holding[kind].claim, pool.demand - holding.demand
  end
end

-- Put back what a process held that has been silent for long.
local function bury(lease_id)
  for class, holding in pairs(stored(HOLDINGS, lease_id) or {}) do
    local pools = stored(POOLS, class)
    if pools then
      withdraw(pools, holding)
      for _, kind in ipairs(KINDS) do pools[kind].level = pools[kind].level + math.max(holding[kind].held, 0) end
      store(POOLS, class, pools)
    end
  end
end

local function end_lease(lease_id)
  demands[lease_id] = nil
  for _, key in ipairs({LEASES, DEMANDS, HOLDINGS}) do redis.call('HDEL', key, lease_id) end
end

local function reap()
  local silent = {}
  for lease_id, one in pairs(demands) do
    -- One that was seen long after now is dead too: the server's clock went back.
    if lease_id ~= me and math.abs(now - one.seen_at) >= told.silent_seconds then silent[#silent + 1] = lease_id end
  end
  for _, lease_id in ipairs(silent) do
    bury(lease_id)
    end_lease(lease_id)
  end
end

-- What a process without a lease has: nothing. It is the first visit, or its share was taken back meanwhile.
local function void(ask)
  local held = math.min(ask.held, 0)
  return {held = held, claim = held + ask.claim - ask.held, wanted = ask.wanted, needed = ask.needed, limit = ask.limit}
end

local function reported(pool, ask)
  local limit, correction = ask.limit or pool.limit, 0
  if ask.error and limit then
    correction = ask.error - (pool.corrected - ask.corrected_then)
    if correction > 0 and pool.limit then correction = correction * UPWARD_GAIN end
  end
  pool.limit = limit
  pool.level = pool.level + correction
  pool.corrected = pool.corrected + correction
  return pool
end

-- `pool` is as it was stored, without what this process claimed then; nil if there is none.
local function current_pool(pool, ask, hint)
  if not pool then
    -- A server that was emptied: what a process knows of the limit bounds all from the start, and it fills up.
    return reported({limit = hint, level = 0, corrected = 0, reported_at = now, claim = 0, demand = 0}, ask)
  end
  if pool.limit and now - pool.reported_at > LIMIT_LIFETIME_SECONDS then
    pool.limit, pool.level = nil, 0
  elseif pool.limit then
    local level = pool.level + math.max(0, now - pool.updated_at) * pool.limit / told.window_seconds
    pool.level = math.min(level, pool.limit - pool.claim - ask.claim)
  end
  return reported(pool, ask)
end

local function missing(pool, ask)
  if not pool.limit then return 0 end
  return math.min(ask.needed, pool.limit) - (pool.level + ask.held)
end

local function draw(pool, ask, demand, can_go)
  if not pool.limit then return ask.held end
  local available, held = pool.level + ask.held, 0
  if can_go and available > 0 then
    local fair = available * demand / math.max(demand + pool.demand, 1)
    held = math.min(available, math.max(ask.needed, math.min(ask.wanted, fair)))
  end
  pool.level = available - held
  return held
end

local function pause_of(class, seconds)
  local until_then = tonumber(redis.call('HGET', PAUSES, class) or 0)
  if seconds > 0 and now + seconds > until_then then
    until_then = now + seconds
    redis.call('HSET', PAUSES, class, string.format('%.6f', until_then))
  end
  return math.max(0, until_then - now)
end

-- Returns what the process gets of a class, and how the pools and its holding are to be stored; `before` is what it had.
local function visit(class, report, known, before)
  local asks, pools, can_go, wait = {}, stored(POOLS, class) or {}, true, 0
  if before and pools.requests then withdraw(pools, before) end
  for _, kind in ipairs(KINDS) do
    local ask = report.asks[kind]
    -- A figure of an earlier life of the server says nothing about this one.
    if ask.source ~= told.id then ask.error = nil end
    asks[kind] = known and ask or void(ask)
    pools[kind] = current_pool(pools[kind], asks[kind], report.hints[kind])
    can_go = can_go and missing(pools[kind], asks[kind]) <= NOTHING
  end
  for _, kind in ipairs(KINDS) do
    if not can_go and pools[kind].limit then
      local seconds = missing(pools[kind], asks[kind]) * told.window_seconds / pools[kind].limit
      wait = math.min(math.max(wait, seconds), LONGEST_SECONDS)
    end
  end
  local shares, holding = {}, {demand = report.demand}
  for _, kind in ipairs(KINDS) do
    local pool, ask = pools[kind], asks[kind]
    local held = draw(pool, ask, report.demand, can_go and report.demand > 0)
    local claim = held + ask.claim - ask.held
    pool.updated_at = now
    if ask.limit then pool.reported_at = now end
    shares[kind] = {limit = pool.limit, held = held, elsewhere = pool.level + pool.claim, corrected = pool.corrected}
    holding[kind] = {held = held, claim = claim}
    pool.claim, pool.demand = pool.claim + claim, pool.demand + report.demand
  end
  return {shares = shares, blocked_seconds = pause_of(class, report.blocked_seconds), wait_seconds = wait}, pools, holding
end

-- Every process gets an equal share before any gets more; places that do not divide go round.
local function fair_places(limit, turn)
  local places, names, left = {}, {}, limit
  for name in pairs(demands) do
    places[name] = 0
    names[#names + 1] = name
  end
  table.sort(names)
  while left > 0 do
    local wanting = {}
    for _, name in ipairs(names) do
      if places[name] < demands[name].demand then wanting[#wanting + 1] = name end
    end
    if #wanting == 0 then break end
    local each = math.floor(left / #wanting)
    if each == 0 then
      for index = 0, left - 1 do
        local name = wanting[(turn + index) % #wanting + 1]
        places[name] = places[name] + 1
      end
      break
    end
    for _, name in ipairs(wanting) do
      local given = math.min(each, demands[name].demand - places[name])
      places[name] = places[name] + given
      left = left - given
    end
  end
  return places
end

-- How many requests this process may have under way, and its part of the requests per minute.
local function share_places(limits)
  local all_demand, taken = 0, 0
  for lease_id, one in pairs(demands) do
    all_demand = all_demand + one.demand
    if lease_id ~= me then taken = taken + math.max(one.places, 0) end
  end
  local places
  if limits.max_concurrent then
    local fair = fair_places(limits.max_concurrent, math.floor(now / TURN_SECONDS))
    -- What others have is theirs until they visit themselves.
    places = math.max(0, math.min(fair[me], limits.max_concurrent - taken))
  end
  return places, demands[me].demand / all_demand
end

local function write_errors()
  for _, seen in ipairs(told.errors) do
    local name = seen.kind .. ' ' .. seen.class_key
    local before = redis.call('HGET', ERRORS, name)
    seen.count = (before and cjson.decode(before).count or 0) + 1
    seen.last_at = now
    redis.call('HSET', ERRORS, name, cjson.encode(seen))
  end
end

local id = redis.call('GET', ID)
if not id then
  id = told.new_id
  redis.call('SET', ID, id)
end
if told.settings and redis.call('EXISTS', SETTINGS) == 0 then
  -- A server that was emptied: what the user has set holds on.
  for name, value in pairs(told.settings) do redis.call('HSET', SETTINGS, name, value) end
end
-- Figures count only if they are of this life of the server.
local known = demands[me] ~= nil and told.id == id
told.id = id
reap()
write_errors()

local is_farewell = told.in_flight == 0 and told.waiting == 0
for _, report in pairs(told.classes) do is_farewell = is_farewell and report.demand == 0 end
local classes, before, mine = {}, stored(HOLDINGS, me) or {}, {}
for class, report in pairs(told.classes) do
  local pools
  classes[class], pools, mine[class] = visit(class, report, known, before[class])
  if is_farewell then withdraw(pools, mine[class]) end
  store(POOLS, class, pools)
end

local settings = all(SETTINGS)
local function setting(name)
  local value = tonumber(settings[name] or 0)
  return value > 0 and value or nil
end
local limits = {
  max_concurrent = setting('max_concurrent'),
  requests_per_minute = setting('requests_per_minute'),
  paused = settings.paused == '1',
}
local standing = {id = id, limits = limits, classes = classes, rate_share = 1}
if is_farewell then
  if limits.max_concurrent then standing.places = 0 end
  end_lease(me)
else
  -- A process at rest keeps a place to begin with.
  demands[me] = {seen_at = now, demand = math.max(told.in_flight + told.waiting, 1), places = -1, machine = told.machine}
  standing.places, standing.rate_share = share_places(limits)
  -- Places of requests under way are taken, whatever the limit has become.
  local taken = standing.places and math.max(standing.places, told.in_flight) or -1
  redis.call('HSET', DEMANDS, me, string.format('%.6f %d %d %s', now, demands[me].demand, taken, told.machine))
  local lease = stored(LEASES, me) or {started_at = now, pid = told.pid, host = told.host}
  lease.seen_at, lease.in_flight, lease.waiting = now, told.in_flight, told.waiting
  store(LEASES, me, lease)
  store(HOLDINGS, me, mine)
end
for _, key in ipairs({LEASES, DEMANDS, HOLDINGS, POOLS, PAUSES, ERRORS}) do redis.call('EXPIRE', key, KEPT_SECONDS) end

local machines, seen = 0, {}
for _, one in pairs(demands) do
  if not seen[one.machine] then
    seen[one.machine], machines = true, machines + 1
  end
end
standing.machines = math.max(machines, 1)
return cjson.encode(standing)
