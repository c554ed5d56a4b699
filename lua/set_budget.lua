#!lua
-- set_budget: set a budget's allocation. What is reserved, spent and owed stays, and what remains
-- follows from them, below zero where they are more.
--
-- KEYS  budget_record
-- ARGV  tenant, scope, allocated
-- Answers
--   SET, allocation before, remaining
--   ERROR, code
-- @include clock
local budget_record = unpack(KEYS)
local tenant, scope, allocated = unpack(ARGV)
-- @include amounts
-- @include budgets

local budget = read_budget(budget_record, scope, tenant, 1)
if not budget then return {'ERROR', 'NO_BUDGET'} end
local before, amounts = budget.allocated, {allocated}
if not load_amounts({budget}, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
if budget.status ~= 'ACTIVE' then return {'ERROR', 'BUDGET_' .. budget.status} end
local remaining = amounts[1] - budget.reserved - budget.spent - budget.debt
if not fits(remaining) then return {'ERROR', 'OUT_OF_RANGE'} end

redis.call('HSET', budget_record, 'allocated', text(amounts[1]), 'remaining', text(remaining),
  'is_over_limit', budget.debt > budget.overdraft_limit and 'true' or 'false',
  'updated_at', ms(now))
return {'SET', before, text(remaining)}
