#!lua
-- lease: one process at a time does a piece of work.
--
-- KEYS  lease
-- ARGV  token: the asking process's; ttl_ms: how long to hold it, '0' gives it up
-- Answers  1 the asker has (or had) it, 0 somebody else does
local lease = unpack(KEYS)
local token, ttl_ms = unpack(ARGV)

local holder = redis.call('GET', lease)
if holder and holder ~= token then return 0 end
if ttl_ms == '0' then
  redis.call('DEL', lease)
else
  redis.call('SET', lease, token, 'PX', ttl_ms)
end
return 1
