#!lua
-- lease: one process at a time does a maintenance job.
--
-- KEYS  1 the lease
-- ARGV  1 the asking process's token   2 how long to hold it, ms; '0' gives it up
-- Answers  1 the asker has (or had) it, 0 somebody else does
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
