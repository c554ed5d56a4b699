#!lua
-- close_tenant: turn a tenant's record CLOSED, and note that what it owns is to follow.
--
-- From this step on every mutation of what the tenant owns is refused.
--
-- KEYS  the head (see lib/mutation), closings (the tenants whose close is not through, with its
--         origin)
-- ARGV  the head; expected: the record as it was read; replacement; origin: JSON
-- Answers
--   OK
--   CHANGED       the record is not what was read; nothing was done
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local closings = unpack(KEYS, HEAD_KEYS + 1)
local expected, replacement, origin = unpack(ARGV, HEAD_ARGUMENTS + 1)

local damaged = audit_damaged()
if damaged then return damaged end
if redis.call('GET', tenant_record) ~= expected then return {'CHANGED'} end

-- A close that was broken off goes on as the request that began it.
redis.call('HSETNX', closings, tenant, origin)
redis.call('SET', tenant_record, replacement)
leave_trace('', '')
return {'OK'}
