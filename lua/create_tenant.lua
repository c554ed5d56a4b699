#!lua
-- create_tenant: write a tenant's record, unless there is one.
--
-- KEYS  the head (see lib/mutation), tenants (the set that names them all), tenants_twin
-- ARGV  the head; record: JSON
-- Answers
--   CREATED
--   EXISTS, record   nothing was changed but the set's membership
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include members
-- @include mutation
local tenants, tenants_twin = unpack(KEYS, HEAD_KEYS + 1)
local record = unpack(ARGV, HEAD_ARGUMENTS + 1)

local stored = redis.call('GET', tenant_record)
if stored then
  join(tenants, tenants_twin, tenant)
  return {'EXISTS', stored}
end
local damaged = audit_damaged()
if damaged then return damaged end

join(tenants, tenants_twin, tenant)
redis.call('SET', tenant_record, record)
leave_trace('', '')
return {'CREATED'}
