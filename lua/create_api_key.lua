#!lua
-- create_api_key: write an API key's record and what leads to it, unless its names are taken.
--
-- KEYS  the head (see lib/mutation), key_record_made, tenant_keys (the tenant's set of key ids),
--         tenant_keys_twin, lookup (the entry that the secret's beginning leads to)
-- ARGV  the head; key_id, record: JSON, lookup_value ('': the entry is written elsewhere, and its
--         name is the record's once more)
-- Answers
--   CREATED
--   TAKEN            another key has this id, or begins like this one; nothing was done
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include members
-- @include mutation
local key_record_made, tenant_keys, tenant_keys_twin, lookup = unpack(KEYS, HEAD_KEYS + 1)
local key_id, record, lookup_value = unpack(ARGV, HEAD_ARGUMENTS + 1)

local refused = owner_refuses() or audit_damaged()
if refused then return refused end
if redis.call('EXISTS', key_record_made, lookup) > 0 then return {'TAKEN'} end

-- First, for their types are all that could still fail.
join(tenant_keys, tenant_keys_twin, key_id)
redis.call('SET', key_record_made, record)
if lookup_value ~= '' then redis.call('SET', lookup, lookup_value) end
leave_trace('', '')
return {'CREATED'}
