-- The state of one breaker, and what is needed to judge it. KEYS: id, breakers, leases. ARGV: breaker, a new id.
-- Returns the life of the server, its time, the state as JSON or '', and when the owner of its probe was last seen.

redis.call('SET', KEYS[1], ARGV[2], 'NX')
local id, time = redis.call('GET', KEYS[1]), redis.call('TIME')
local text, seen_at = redis.call('HGET', KEYS[2], ARGV[1]) or '', 0
if text ~= '' then
  local owner = string.match(cjson.decode(text).probe_by or '', '^(.-)/')
  local lease = owner and redis.call('HGET', KEYS[3], owner)
  if lease then seen_at = cjson.decode(lease).seen_at end
end
return {id, string.format('%.6f', time[1] + time[2] / 1000000), text, string.format('%.6f', seen_at)}
