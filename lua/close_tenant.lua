#!lua
-- close_tenant: turn a tenant's record CLOSED, and note that what it owns is to follow.
--
-- From this step on every mutation of what the tenant owns is refused.
--
-- KEYS  the head (see lib/mutation), closings (the tenants whose close is not through, with its
--         origin), row_record (as in replace_record)
-- ARGV  the head; expected: the record as it was read; replacement; origin: JSON;
--         row_kept_ms (as in replace_record)
-- Answers
--   OK
--   CHANGED       the record is not what was read; nothing was done
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local closings, row_record = unpack(KEYS, HEAD_KEYS + 1)
local expected, replacement, origin, row_kept_ms = unpack(ARGV, HEAD_ARGUMENTS + 1)

local damaged = audit_damaged()
if damaged then return damaged end
if redis.call('GET', tenant_record) ~= expected then return {'CHANGED'} end

-- A close that was broken off goes on as the request that began it.
redis.call('HSETNX', closings, tenant, origin)
redis.call('SET', tenant_record, replacement)
if row_kept_ms ~= '0' then redis.call('SET', row_record, '1', 'PX', row_kept_ms) end
leave_trace('', '')
return {'OK'}
