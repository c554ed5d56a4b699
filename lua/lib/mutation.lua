-- mutation: the head that governance's scripts share, what they do first, and what they leave.
--
-- KEYS  key_record (of the caller; the tenant's record for the operator), tenant_record (of whoever
--         owns what is changed), audit_record, audit_of_tenant, audit_of_all (indexes)
-- ARGV  verified_key, verified_tenant   the caller's records as the server verified them; the first
--         is '' for the operator
--       key_valid_until   the key's last valid ms ('' for ever)
--       tenant            whose it is
--       owner_rule        what the tenant must be: ACTIVE, OPEN (not closed), or '' for anything
--       audit_id, audit_members, audit_facts   the entry: its id ('' for none, where a call has one
--         for many changes), and members of it and of its metadata as JSON without the braces
--       audit_kept_ms     its life ('0': for ever)
-- A script's own follow behind HEAD_KEYS and HEAD_ARGUMENTS. governance/scripts/head.py has the
-- same names in the same order.
--
-- credential_stale()  whether the records of the caller's key are no longer those that were
--                     verified, or the key has lapsed since; the server then asks again
-- owner_refuses()     what the tenant's record says against the change, if anything
-- audit_damaged()     whether the entry could not be written: asked before the first write
-- leave_trace(members, facts)  the entry, in the same step as what it tells of; both arguments
--                     are JSON members that only the script knows, '' for none. The one place
--                     where a change is told of: an event for subscribers is queued here too.
local key_record, tenant_record, audit_record, audit_of_tenant, audit_of_all = unpack(KEYS)
local verified_key, verified_tenant, key_valid_until, tenant, owner_rule, audit_id, audit_members,
  audit_facts, audit_kept_ms = unpack(ARGV)
local HEAD_KEYS, HEAD_ARGUMENTS = 5, 9

local function credential_stale()
  if verified_key == '' then return false end
  if redis.call('GET', key_record) ~= verified_key then return true end
  if key_valid_until ~= '' and now > tonumber(key_valid_until) then return true end
  return (redis.call('GET', tenant_record) or '') ~= verified_tenant
end

local function owner_refuses()
  if owner_rule == '' then return nil end
  local record = redis.call('GET', tenant_record)
  if not record then
    if owner_rule == 'ACTIVE' then return {'ERROR', 'TENANT_NOT_FOUND'} end
    return nil
  end
  local readable, fields = pcall(cjson.decode, record)
  local status = readable and type(fields) == 'table' and fields.status
  if status == 'CLOSED' then return {'ERROR', 'TENANT_CLOSED'} end
  if status ~= 'ACTIVE' and status ~= 'SUSPENDED' then return {'ERROR', 'TENANT_UNREADABLE'} end
  if status == 'SUSPENDED' and owner_rule == 'ACTIVE' then return {'ERROR', 'TENANT_SUSPENDED'} end
  return nil
end

local audit_indexes = {audit_of_tenant, audit_of_all}

local function audit_damaged() return damaged_index(audit_indexes) end

local function leave_trace(members, facts)
  if audit_id == '' then return end
  members = joined(audit_members, members)
  local metadata = joined(audit_facts, facts)
  if metadata ~= '' then members = joined(members, '"metadata":{' .. metadata .. '}') end
  write_entry(audit_record, audit_indexes, audit_id, members, audit_kept_ms)
end
