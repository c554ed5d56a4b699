-- members: adding to the sets that lists walk.
--
-- join(set, twin, member)  also to the set's twin, the same in order, if there is one. Readers bring
--                          a twin up to date that lacks something, at the cost of the whole set.
local function join(set, twin, member)
  redis.call('SADD', set, member)
  if redis.call('TYPE', twin).ok == 'zset' then redis.call('ZADD', twin, 0, member) end
end
