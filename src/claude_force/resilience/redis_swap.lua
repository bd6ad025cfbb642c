-- Replaces a field if it is what its reader saw. KEYS: hash. ARGV: field, what was seen or '', what is to be or ''.
-- Returns 1 when it was replaced.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
