#!lua flags=no-writes
-- observe: a record and its places in indexes, as they are at one moment. It writes nothing and says
-- so above: a replica and a full store answer too.
--
-- KEYS  behind the record: sets and sorted sets that may name it
-- ARGV  name, what they name it by; behind it: fields of the record
-- Answers
--   the store's clock as TIME tells it
--   the record's kind: none, hash, string, ...
--   its fields, nothing for one that is absent; of a string its text alone; else none at all
--   its place in each index: its score, 1 in a set; nothing where it is not named
local record = unpack(KEYS)
local name = unpack(ARGV)
local INDEXES_AFTER, FIELDS_AFTER = 1, 1

local kind = redis.call('TYPE', record).ok
local fields = {}
if kind == 'hash' and #ARGV > FIELDS_AFTER then
  fields = redis.call('HMGET', record, unpack(ARGV, FIELDS_AFTER + 1))
elseif kind == 'string' then
  fields = {redis.call('GET', record)}
end
local places = {}
for index = 1, #KEYS - INDEXES_AFTER do
  local key = KEYS[INDEXES_AFTER + index]
  local place, of = false, redis.call('TYPE', key).ok
  if of == 'zset' then
    place = redis.call('ZSCORE', key, name)
  elseif of == 'set' and redis.call('SISMEMBER', key, name) == 1 then
    place = '1'
  end
  places[index] = place
end
return {redis.call('TIME'), kind, fields, places}
