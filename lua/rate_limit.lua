#!lua
-- rate_limit: count one request of an address in the current minute.
--
-- KEYS  1 the address's counter of this window
-- ARGV  1 how long the counter lives, ms
-- Answers  the count, this request included
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
