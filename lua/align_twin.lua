#!lua
-- align_twin: one step of making a sorted set have the members of a set, each at score 0.
--
-- KEYS  members (the set), twin (the sorted set)
-- ARGV  task: ADD what the twin lacks, or DROP what the set lacks
--       cursor: the last step's answer, '0' for the first one
--       at_once: about how many members to look at
-- Answers
--   cursor ('0': this was the last step), how many were added or dropped,
--   how many more the set has than the twin
local members, twin = unpack(KEYS)
local task, cursor, at_once = unpack(ARGV)

local changed, found = 0, nil
if task == 'ADD' then
  found = redis.call('SSCAN', members, cursor, 'COUNT', at_once)
  -- Many with one command; how many values a call may have is bounded.
  for first = 1, #found[2], 500 do
    local scored = {}
    for place = first, math.min(first + 499, #found[2]) do
      scored[#scored + 1] = 0
      scored[#scored + 1] = found[2][place]
    end
    changed = changed + redis.call('ZADD', twin, unpack(scored))
  end
else
  found = redis.call('ZSCAN', twin, cursor, 'COUNT', at_once)
  for place = 1, #found[2], 2 do  -- each is followed by its score
    if redis.call('SISMEMBER', members, found[2][place]) == 0 then
      changed = changed + redis.call('ZREM', twin, found[2][place])
    end
  end
end
return {found[1], changed, redis.call('SCARD', members) - redis.call('ZCARD', twin)}
