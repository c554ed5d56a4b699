#!lua
-- update_budget: set what a budget allows, not what it has.
--
-- KEYS  the head (see lib/mutation), budget_record
-- ARGV  the head; scope; overdraft_limit, overage_policy, metadata (JSON): '' leaves one as it is;
--         status: ACTIVE or FROZEN to change to, '' leaves it; the names of fields to answer with
-- Answers
--   OK, the values of those fields as this change left them
--   STALE            the credential must be read again
--   ERROR, code      ALREADY_ACTIVE, ALREADY_FROZEN: the budget has the asked status
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local budget_record = unpack(KEYS, HEAD_KEYS + 1)
local scope, overdraft_limit, overage_policy, metadata, status = unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include amounts
-- @include budgets

if credential_stale() then return {'STALE'} end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
local budget = read_budget(budget_record, scope, tenant, 1)
if not budget then return {'ERROR', 'BUDGET_NOT_FOUND'} end
if overdraft_limit == '' then overdraft_limit = budget.overdraft_limit end
local amounts = {overdraft_limit}
if not load_amounts({budget}, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
if budget.status == 'CLOSED' then return {'ERROR', 'BUDGET_CLOSED'} end
if budget.status ~= 'ACTIVE' and budget.status ~= 'FROZEN' then return {'ERROR', 'CORRUPT_BUDGET'} end
if status == budget.status then return {'ERROR', 'ALREADY_' .. status} end

local fields = {'updated_at', ms(now)}
local function set(name, value)
  if value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
set('status', status)
if status == '' then
  set('overdraft_limit', text(amounts[1]))
  set('is_over_limit', budget.debt > amounts[1] and 'true' or 'false')
end
set('commit_overage_policy', overage_policy)
set('metadata_json', metadata)
redis.call('HSET', budget_record, unpack(fields))
leave_trace('', '')
return {'OK', unpack(redis.call('HMGET', budget_record, unpack(ARGV, HEAD_ARGUMENTS + 6)))}
