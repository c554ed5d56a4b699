#!lua
-- rate_limit: count one request of an address in the current minute.
--
-- KEYS  counter: the address's in this window
-- ARGV  kept_ms: how long the counter lives
-- Answers  the count, this request included
local counter = unpack(KEYS)
local kept_ms = unpack(ARGV)

local count = redis.call('INCR', counter)
if count == 1 then redis.call('PEXPIRE', counter, kept_ms) end
return count
