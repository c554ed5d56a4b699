-- audit: entries of the audit log.
--
-- joined(one, other)   two texts of JSON members as one; either may be ''
-- write_entry(record, indexes, id, members, kept_ms)  an entry with the members that it is told of,
--   at this time; kept_ms '0': for ever. Its id goes into each of the indexes.
-- damaged_index(indexes)  the refusal where an entry could not be written; asked before the first
--   write of a script
local function joined(one, other)
  if one == '' or other == '' then return one .. other end
  return one .. ',' .. other
end

local function write_entry(record, indexes, id, members, kept_ms)
  redis.call('SET', record, '{"log_id":"' .. id .. '","timestamp":"' .. instant(now) .. '",'
    .. members .. '}')
  if kept_ms ~= '0' then redis.call('PEXPIRE', record, kept_ms) end
  for _, index in ipairs(indexes) do redis.call('ZADD', index, ms(now), id) end
end

local function damaged_index(indexes)
  for _, index in ipairs(indexes) do
    local kind = redis.call('TYPE', index).ok
    if kind ~= 'none' and kind ~= 'zset' then return {'ERROR', 'CORRUPT_AUDIT_INDEX'} end
  end
  return nil
end
