#!lua
-- debit: charge budgets directly, for what could not be estimated before.
--
-- KEYS  the head (see lib/call), idempotency_record, event (the new one), policies (see
--         lib/rulings); behind them the budgets of the subject's scopes in the unit, from the
--         tenant down, and the policies that could govern
-- ARGV  the head; event_prefix (of keys); asked_policy and default_policy: what is asked for or
--         ruled, and the tenant's own, or ''; subject, action: JSON; metadata, metrics: JSON or '';
--         client_time_ms or ''; scopes_json: the affected scopes as an array; kept: '1' only where
--         the reference's form of the answer is to be kept (no key, as elsewhere: it is a field of
--         the event), else ''; policies_known, policy_count, policy_until: see lib/rulings; behind
--         them the scopes, in the order of the budgets, and the policies' records
-- Answers
--   OK or REPLAY, event id, amount, charged, unit, affected scopes (JSON array), balances,
--     policy, debt
--   FOREIGN, id               the key belongs to a debit that another server made
--   STALE                     the credential, or the policies, must be read again
--   NO_BUDGET                 no scope has a budget in this unit
--   ERROR, code [, scope]
-- @include clock
-- @include call
local idempotency_record, event, policies = unpack(KEYS, HEAD_KEYS + 1)
local event_prefix, request_hash, event_id, amount, unit, asked_policy, default_policy, subject,
  action, metadata, metrics, client_time_ms, scopes_json, idempotency_key, kept, policies_known,
  policy_count, policy_until = unpack(ARGV, HEAD_ARGUMENTS + 1)
local BUDGETS_AFTER, SCOPES_AFTER = HEAD_KEYS + 3, HEAD_ARGUMENTS + 18
-- @include retention
-- @include amounts
-- @include budgets
-- @include holds
-- @include charge
-- @include defaults
-- @include policies
-- @include rulings

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end
local mismatch = false
local record = redis.call('GET', idempotency_record)
if record and #record == 36 then
  local stored = redis.call('HMGET', event_prefix .. record, 'event_id', 'amount', 'charged_amount',
    'unit', 'affected_scopes', 'event_balances', 'overage_policy', 'debt_incurred',
    'request_hash')
  if stored[1] then
    if not stored[9] then return {'FOREIGN', record} end
    if stored[9] == request_hash then return {'REPLAY', unpack(stored, 1, 8)} end
    mismatch = true
  end
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be charged?
local count = #ARGV - SCOPES_AFTER - policy_count
if policies_changed(BUDGETS_AFTER + count, SCOPES_AFTER + count) then return {'STALE'} end
local budgets = {}
for place = 1, count do
  budgets[#budgets + 1] =
    read_budget(KEYS[BUDGETS_AFTER + place], ARGV[SCOPES_AFTER + place], tenant, place)
end
if #budgets == 0 then return {'NO_BUDGET'} end
local amounts = {amount, '0'}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
for _, state in ipairs({'FROZEN', 'CLOSED'}) do
  for _, budget in ipairs(budgets) do
    if budget.status == state then return {'ERROR', 'BUDGET_' .. state, budget.scope} end
  end
end
local policy = overage_policy(asked_policy, budgets[#budgets], default_policy)
local code, charged, debt = charge(budgets, amounts[2], amounts[1], policy, true)
if code then return {'ERROR', code, charged} end  -- in second place, the scope

-- 3. Charge it.
write_budgets(budgets)
local balances = snapshot(budgets)
local fields = {
  'event_id', event_id, 'tenant', tenant, 'subject_json', subject, 'action_json', action,
  'amount', amount, 'charged_amount', text(charged), 'unit', unit,
  'scope_path', ARGV[SCOPES_AFTER + count], 'affected_scopes', scopes_json,
  'created_at', ms(now), 'idempotency_key', idempotency_key, 'overage_policy', policy,
  'debt_incurred', text(debt), 'request_hash', request_hash, 'event_balances', balances,
}
local function keep(name, value)
  if kept == '1' or value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
local scopes = {}
for index, budget in ipairs(budgets) do scopes[index] = '"' .. budget.scope .. '"' end
keep('budgeted_scopes', '[' .. table.concat(scopes, ',') .. ']')
keep('metadata_json', metadata)
keep('metrics_json', metrics)
keep('client_time_ms', client_time_ms)
if kept == '1' then
  -- @include reference
  local capped = charged ~= amounts[1] and ',"charged":"' .. text(charged) .. '"' or ''
  keep('event_response_json', '{"status":"APPLIED","event_id":"' .. event_id .. '"' .. capped
    .. ',"balances":' .. kept_balances(budgets, true, true) .. '}')
end
redis.call('HSET', event, unpack(fields))
redis.call('PEXPIRE', event, KEPT_MS)
redis.call('SET', idempotency_record, event_id, 'PX', DEBIT_IDEMPOTENCY_MS)

return {'OK', event_id, amount, text(charged), unit, scopes_json, balances, policy, text(debt)}
