-- call: the head that the scripts of the ledger share, and what they do first.
--
-- KEYS  key_record, tenant_record   of the caller; the tenant's record twice for the operator
-- ARGV  verified_key, verified_tenant   both records as the server verified them ('' for the
--         operator's key, and for no tenant record)
--       key_valid_until   the key's last valid ms ('' for ever)
--       tenant            on whose account the call works
--       tenant_guard      what the tenant's record says to a mutation: OPEN, CLOSED, UNREADABLE
-- A script's own follow behind HEAD_KEYS and HEAD_ARGUMENTS. ledger/scripts/head.py has the same
-- names in the same order.
--
-- credential_stale()  whether the key or tenant record is no longer the one that the server
--                     verified, or the key has lapsed since; the server then asks again
-- guarded()           what the tenant's status answers to a mutation, if anything
local key_record, tenant_record = unpack(KEYS)
local verified_key, verified_tenant, key_valid_until, tenant, tenant_guard = unpack(ARGV)
local HEAD_KEYS, HEAD_ARGUMENTS = 2, 5

local function credential_stale()
  if verified_key ~= '' then
    if redis.call('GET', key_record) ~= verified_key then return true end
    if key_valid_until ~= '' and now > tonumber(key_valid_until) then return true end
  end
  return (redis.call('GET', tenant_record) or '') ~= verified_tenant
end

local function guarded()
  if tenant_guard == 'OPEN' then return nil end
  return {'ERROR', tenant_guard == 'CLOSED' and 'TENANT_CLOSED' or 'TENANT_UNREADABLE'}
end
