#!lua
-- fund: change what a budget has, by one of the five operations.
--
-- KEYS  the head (see lib/mutation), budget_record; of the idempotency key: funding_record, and
--         reference_record and reference_hash, where the reference remembers its fundings, and
--         reference_budget, where we note which budget's funding it is that we have put there
-- ARGV  the head; scope; operation: CREDIT, DEBIT, RESET, RESET_SPENT or REPAY_DEBT; amount; spent
--         (of RESET_SPENT); request_hash: '' for a call without idempotency key; changeover_hash:
--         the reference's own hash of the request where its fundings count too, else ''; only_debt:
--         '1' for a repayment that is not to go beyond the debt, else ''; names_budget: '1' where
--         the name of the reference's record tells this budget, else ''
-- Answers
--   OK or REPLAY, at (epoch ms); allocated, remaining, debt and spent, each before and after
--   STALE            the credential must be read again
--   ERROR, code      NO_DEBT: nothing to repay
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local budget_record, funding_record, reference_record, reference_hash, reference_budget =
  unpack(KEYS, HEAD_KEYS + 1)
local scope, operation, amount, spent, request_hash, changeover_hash, only_debt, names_budget =
  unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include retention
-- @include amounts
-- @include budgets
-- @include holders

-- How far the reference's clock may be from this store's.
local CLOCKS_APART_MS = 60000

local function parts_of(stored)
  local parts = {}
  for part in string.gmatch(stored, '[^|]+') do parts[#parts + 1] = part end
  return parts
end

-- What no budget has, and no answer could tell of.
local function below_zero(budget)
  return budget.reserved < zero or budget.spent < zero or budget.debt < zero
    or budget.overdraft_limit < zero
end

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end
local mismatch, foreign = false, nil
if request_hash ~= '' then
  local stored = redis.call('GET', funding_record)
  if stored then
    local parts = parts_of(stored)
    if parts[1] == request_hash then return {'REPLAY', unpack(parts, 2)} end
    mismatch = true
  elseif changeover_hash ~= '' then
    foreign = redis.call('GET', reference_record)
    -- What we have put there ourselves is another funding: this one's record would have been found.
    if foreign and redis.call('EXISTS', reference_budget) == 1 then foreign = nil end
  end
end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be done?
local budget = read_budget(budget_record, scope, tenant, 1)
if not budget then return {'ERROR', 'BUDGET_NOT_FOUND'} end
local amounts = {amount, spent}
if not load_amounts({budget}, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
if foreign then
  -- The reference's keys name no ledger, but for a row of a bulk action. Only fundings change an
  -- allocation, and each notes its time: a budget that is as that funding left it, and was changed
  -- then or since, tells a repetition from the same key on another ledger, which is refused.
  local parts = parts_of(foreign)
  local funded_at = now - FUNDING_IDEMPOTENCY_MS + redis.call('PTTL', reference_record)
  local changed_at = whole(redis.call('HGET', budget_record, 'updated_at'))
  local is_own = names_budget == '1' or (parts[2] == budget.row[ALLOCATED]
    and changed_at and changed_at >= funded_at - CLOCKS_APART_MS)
  if is_own and redis.call('GET', reference_hash) == changeover_hash and #parts == 9 then
    return {'REPLAY', ms(changed_at or now), parts[1], parts[2], parts[3], parts[4], parts[5],
      parts[6], parts[8], parts[9]}
  end
  return {'ERROR', 'IDEMPOTENCY_MISMATCH'}
end
if below_zero(budget) then return {'ERROR', 'CORRUPT_BUDGET'} end
if budget.status == 'FROZEN' or budget.status == 'CLOSED' then
  return {'ERROR', 'BUDGET_' .. budget.status}
end
if budget.status ~= 'ACTIVE' then return {'ERROR', 'CORRUPT_BUDGET'} end
amount = amounts[1]
local before = {allocated = budget.allocated, remaining = budget.remaining, debt = budget.debt,
  spent = budget.spent}
if operation == 'CREDIT' then
  budget.allocated = budget.allocated + amount
  budget.remaining = budget.remaining + amount
elseif operation == 'DEBIT' then
  if budget.remaining < amount then return {'ERROR', 'BUDGET_EXCEEDED'} end
  budget.allocated = budget.allocated - amount
  budget.remaining = budget.remaining - amount
elseif operation == 'REPAY_DEBT' then
  local paid = lesser(budget.debt, amount)
  if only_debt == '1' then
    if paid == zero then return {'ERROR', 'NO_DEBT'} end
    amount = paid
  end
  budget.debt = budget.debt - paid
  -- What is more than the debt is a credit.
  budget.allocated = budget.allocated + (amount - paid)
  budget.remaining = budget.remaining + amount
else
  if operation == 'RESET_SPENT' then budget.spent = amounts[2] end
  budget.allocated = amount
  budget.remaining = amount - budget.reserved - budget.spent - budget.debt
end
if budget.allocated < zero or not (fits(budget.allocated) and fits(budget.remaining)) then
  return {'ERROR', 'OUT_OF_RANGE'}
end

-- 3. Do it.
redis.call('HSET', budget_record, 'allocated', text(budget.allocated), 'remaining',
  text(budget.remaining), 'debt', text(budget.debt), 'spent', text(budget.spent),
  'is_over_limit', budget.debt > budget.overdraft_limit and 'true' or 'false',
  'updated_at', ms(now))
local told, facts = {ms(now)}, {}
for _, name in ipairs({'allocated', 'remaining', 'debt', 'spent'}) do
  local was, is = text(before[name]), text(budget[name])
  told[#told + 1] = was
  told[#told + 1] = is
  facts[#facts + 1] = '"previous_' .. name .. '":' .. was .. ',"new_' .. name .. '":' .. is
end
if request_hash ~= '' then
  redis.call('SET', funding_record, request_hash .. '|' .. table.concat(told, '|'), 'PX',
    FUNDING_IDEMPOTENCY_MS)
  if changeover_hash ~= '' then
    redis.call('SET', reference_record, table.concat(told, '|', 2, 7) .. '|'
      .. (budget.debt > budget.overdraft_limit and 'true' or 'false') .. '|'
      .. table.concat(told, '|', 8, 9), 'PX', FUNDING_IDEMPOTENCY_MS)
    redis.call('SET', reference_hash, changeover_hash, 'PX', FUNDING_IDEMPOTENCY_MS)
    redis.call('SET', reference_budget, budget_record, 'PX', FUNDING_IDEMPOTENCY_MS)
  end
end
local ledger_id = redis.call('HGET', budget_record, 'ledger_id') or ''
leave_trace('"resource_id":' .. cjson.encode(ledger_id), table.concat(facts, ','))
return {'OK', unpack(told)}
