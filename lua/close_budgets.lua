#!lua
-- close_budgets: close some of a closed tenant's budgets, each with its audit entry. What they
-- still hold goes back to what remains.
--
-- KEYS  tenant_record, audit_of_tenant, audit_of_all; behind them the budgets
-- ARGV  tenant; audit_prefix, audit_members, audit_kept_ms: see release_all; behind them the
--         budgets' scopes
-- Answers  one word for each budget: CLOSED; OVER (none, closed before, or another tenant's). Or
--   ERROR, code.
-- @include clock
-- @include instants
-- @include audit
local tenant_record, audit_of_tenant, audit_of_all = unpack(KEYS)
local tenant, audit_prefix, audit_members, audit_kept_ms = unpack(ARGV)
local BUDGETS_AFTER, SCOPES_AFTER = 3, 4
-- @include closed
-- @include amounts
-- @include budgets

local refused = still_open() or damaged_index({audit_of_tenant, audit_of_all})
if refused then return refused end
local answers, budgets = {}, {}
for place = 1, #KEYS - BUDGETS_AFTER do
  local budget = read_budget(KEYS[BUDGETS_AFTER + place], ARGV[SCOPES_AFTER + place], tenant, place)
  answers[place] = 'OVER'
  if budget and budget.status ~= 'CLOSED' then
    answers[place] = 'CLOSED'
    budgets[#budgets + 1] = budget
  end
end
if not load_amounts(budgets, {}) then return {'ERROR', 'CORRUPT_BUDGET'} end
for _, budget in ipairs(budgets) do
  if not fits(budget.remaining + budget.reserved) then return {'ERROR', 'CORRUPT_BUDGET'} end
end

for _, budget in ipairs(budgets) do
  local names = redis.call('HMGET', budget.key, 'ledger_id', 'unit')
  local ledger_id, unit = names[1] or '', names[2] or ''
  redis.call('HSET', budget.key, 'status', 'CLOSED', 'reserved', '0', 'remaining',
    text(budget.remaining + budget.reserved), 'closed_at', ms(now), 'updated_at', ms(now))
  local named = '"ledger_id":' .. cjson.encode(ledger_id) .. ',"scope":"' .. budget.scope
    .. '","unit":' .. cjson.encode(unit)
  if budget.reserved ~= zero then
    -- A hold of no reservation that could be released by itself.
    leave_entry('reservation.released_via_tenant_cascade', 'budget', ledger_id,
      named .. ',"released_amount":' .. text(budget.reserved))
  end
  leave_entry('budget.closed_via_tenant_cascade', 'budget', ledger_id, named
    .. ',"prior_status":' .. cjson.encode(budget.status) .. ',"new_status":"CLOSED"')
end

return answers
