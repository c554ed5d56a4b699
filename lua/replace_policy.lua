#!lua
-- replace_policy: write a changed policy, unless somebody else has changed it meanwhile, or another
-- of its tenant's has the name.
--
-- KEYS  the head (see lib/mutation), policy_record, policies (the tenant's set of policy ids)
-- ARGV  the head; policy_prefix (of keys), policy_id; name: the new one, '' where it stays;
--         expected: the record as it was read; replacement
-- Answers
--   OK
--   CHANGED       it is not what was read; nothing was done
--   STALE         the credential must be read again
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local policy_record, policies = unpack(KEYS, HEAD_KEYS + 1)
local policy_prefix, policy_id, name, expected, replacement = unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include policy_names

if credential_stale() then return {'STALE'} end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
if redis.call('GET', policy_record) ~= expected then return {'CHANGED'} end
if name ~= '' and name_taken(policies, policy_prefix, name, policy_id) then
  return {'ERROR', 'DUPLICATE_RESOURCE'}
end

redis.call('SET', policy_record, replacement)
leave_trace('', '')
return {'OK'}
