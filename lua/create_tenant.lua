#!lua
-- create_tenant: write a tenant's record, unless there is one.
--
-- KEYS  the head (see lib/mutation), tenants (the set that names them all), tenants_twin
-- ARGV  the head; record: JSON; apart: '1' where that set is out of a tenant's script's reach, and
--         the caller has added to it, else ''
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
local record, apart = unpack(ARGV, HEAD_ARGUMENTS + 1)

local stored = redis.call('GET', tenant_record)
if stored then
  if apart == '' then join(tenants, tenants_twin, tenant) end
  return {'EXISTS', stored}
end
local damaged = audit_damaged()
if damaged then return damaged end

if apart == '' then join(tenants, tenants_twin, tenant) end
redis.call('SET', tenant_record, record)
leave_trace('', '')
return {'CREATED'}
