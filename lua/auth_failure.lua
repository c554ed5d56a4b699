#!lua
-- auth_failure: count one failed authentication of an address in the current window.
--
-- KEYS  counters: failures by address; it lives for one window, from the first failure on
-- ARGV  address; most_sources: addresses that are counted by themselves; window_ms
-- Answers  the count, this one included; the ms until the window ends
local counters = unpack(KEYS)
local address, most_sources, window_ms = unpack(ARGV)

if redis.call('HEXISTS', counters, address) == 0
  and redis.call('HLEN', counters) >= tonumber(most_sources) then
  address = ''  -- what is beyond has one count together
end
local count = redis.call('HINCRBY', counters, address, 1)
if redis.call('PTTL', counters) < 0 then redis.call('PEXPIRE', counters, window_ms) end
return {count, redis.call('PTTL', counters)}
