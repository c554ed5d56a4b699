#!lua
-- create_budget: write a budget that does not exist yet; one that does is left as it is.
--
-- KEYS  the head (see lib/mutation), budget_record, tenant_budgets (the tenant's set of budget keys),
--         tenant_budgets_twin
-- ARGV  the head; ledger_id, scope, unit, allocated, overdraft_limit; overage_policy,
--         rollover_policy, period_start and period_end (epoch ms), metadata (JSON): '' for none
-- Answers
--   CREATED, at      epoch ms
--   EXISTS, tenant (or ''), allocated, remaining   nothing was changed but the set's membership
--   STALE            the credential must be read again
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include members
-- @include mutation
local budget_record, tenant_budgets, tenant_budgets_twin = unpack(KEYS, HEAD_KEYS + 1)
local ledger_id, scope, unit, allocated, overdraft_limit, overage_policy, rollover_policy,
  period_start, period_end, metadata = unpack(ARGV, HEAD_ARGUMENTS + 1)

if credential_stale() then return {'STALE'} end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
local row = redis.call('HMGET', budget_record, 'tenant_id', 'allocated', 'remaining')
if redis.call('EXISTS', budget_record) == 1 then
  if row[1] == tenant then join(tenant_budgets, tenant_budgets_twin, budget_record) end
  return {'EXISTS', row[1] or '', row[2] or '', row[3] or ''}
end

-- First, for their types are all that could still fail.
join(tenant_budgets, tenant_budgets_twin, budget_record)
local fields = {
  'ledger_id', ledger_id, 'tenant_id', tenant, 'scope', scope, 'unit', unit,
  'allocated', allocated, 'remaining', allocated, 'reserved', '0', 'spent', '0', 'debt', '0',
  'overdraft_limit', overdraft_limit, 'is_over_limit', 'false', 'status', 'ACTIVE',
  'created_at', ms(now),
}
local function keep(name, value)
  if value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
keep('commit_overage_policy', overage_policy)
keep('rollover_policy', rollover_policy)
keep('period_start', period_start)
keep('period_end', period_end)
keep('metadata_json', metadata)
redis.call('HSET', budget_record, unpack(fields))
leave_trace('', '')
return {'CREATED', ms(now)}
