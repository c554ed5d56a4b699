#!lua
-- create_policy: write a policy under a name that none of its tenant's has.
--
-- KEYS  the head (see lib/mutation), policy_record (the new one), policy_owner (told beside it),
--         policies (the tenant's set of policy ids), policies_twin
-- ARGV  the head; policy_prefix (of keys), policy_id, name, record: JSON
-- Answers
--   CREATED
--   STALE            the credential must be read again
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include members
-- @include mutation
local policy_record, policy_owner, policies, policies_twin = unpack(KEYS, HEAD_KEYS + 1)
local policy_prefix, policy_id, name, record = unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include policy_names

if credential_stale() then return {'STALE'} end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
if name_taken(policies, policy_prefix, name, policy_id) then
  return {'ERROR', 'DUPLICATE_RESOURCE'}
end

-- First, for its twin's type is all that could still fail.
join(policies, policies_twin, policy_id)
redis.call('SET', policy_record, record)
redis.call('SET', policy_owner, tenant)
leave_trace('', '')
return {'CREATED'}
