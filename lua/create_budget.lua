#!lua
-- create_budget: write a budget that does not exist yet; one that does is left as it is.
--
-- KEYS  budget_record, tenant_budgets (the tenant's set of budget keys)
-- ARGV  overage_policy: the budget's own, or ''
-- Answers
--   CREATED
--   EXISTS, tenant (or ''), allocated, remaining   nothing was changed but the set's membership
-- @include clock
local budget_record, tenant_budgets = unpack(KEYS)
local tenant, ledger_id, scope, unit, allocated, overdraft_limit, overage_policy = unpack(ARGV)

local row = redis.call('HMGET', budget_record, 'tenant_id', 'allocated', 'remaining')
if redis.call('EXISTS', budget_record) == 1 then
  if row[1] == tenant then redis.call('SADD', tenant_budgets, budget_record) end
  return {'EXISTS', row[1] or '', row[2] or '', row[3] or ''}
end

-- First, for its type is all that could still fail.
redis.call('SADD', tenant_budgets, budget_record)
redis.call('HSET', budget_record, 'ledger_id', ledger_id, 'tenant_id', tenant, 'scope', scope,
  'unit', unit, 'allocated', allocated, 'remaining', allocated, 'reserved', '0', 'spent', '0',
  'debt', '0', 'overdraft_limit', overdraft_limit, 'is_over_limit', 'false', 'status', 'ACTIVE',
  'created_at', ms(now), 'updated_at', ms(now))
if overage_policy ~= '' then
  redis.call('HSET', budget_record, 'commit_overage_policy', overage_policy)
end
return {'CREATED'}
