#!lua flags=no-writes
-- observe: a record and its places in indexes, as they are at one moment. It writes nothing and says
-- so above: a replica and a full store answer too.
--
-- KEYS  1 the record   2.. sets and sorted sets that may name it
-- ARGV  1 what they name it by   2.. fields of the record
-- Answers
--   the store's clock as TIME tells it
--   the record's kind: none, hash, string, ...
--   its fields, nothing for one that is absent; no fields at all unless it is a hash
--   its place in each index: its score, 1 in a set; nothing where it is not named
local record, name = KEYS[1], ARGV[1]

local kind = redis.call('TYPE', record).ok
local fields = {}
if kind == 'hash' and #ARGV > 1 then fields = redis.call('HMGET', record, unpack(ARGV, 2)) end
local places = {}
for index = 2, #KEYS do
  local place, of = false, redis.call('TYPE', KEYS[index]).ok
  if of == 'zset' then
    place = redis.call('ZSCORE', KEYS[index], name)
  elseif of == 'set' and redis.call('SISMEMBER', KEYS[index], name) == 1 then
    place = '1'
  end
  places[index - 1] = place
end
return {redis.call('TIME'), kind, fields, places}
