#!lua
-- debit: charge budgets directly, for what could not be estimated before.
--
-- KEYS  1 API key record   2 tenant record   3 idempotency record   4 the new event
--       5.. the budgets of the subject's scopes in the unit, from the tenant down
-- ARGV  1-3 credential, 5 guard (see lib/call)     4 tenant
--       6 key prefix of events                     7 request hash
--       8 the new event's id                       9 amount       10 unit
--       11 policy asked for, or ''                 12 the tenant's default policy, or ''
--       13 subject JSON   14 action JSON           15 metadata JSON, or ''
--       16 metrics JSON, or ''                     17 client time ms, or ''
--       18 affected scopes, JSON array             19 idempotency key
--       20.. the scopes, in the order of the budgets
--       and last '1', only where the reference's form of the answer is to be kept
-- Answers
--   OK or REPLAY, event id, amount, charged, unit, affected scopes (JSON array), balances,
--     policy, debt
--   FOREIGN, id               the key belongs to a debit that another server made
--   STALE                     the credential must be read again
--   NO_BUDGET                 no scope has a budget in this unit
--   ERROR, code [, scope]
-- @include call
-- @include amounts
-- @include budgets
-- @include holds
-- @include charge
-- @include policies

local IDEMPOTENCY_MS = 604800000
local KEPT_MS = 2592000000

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end
local mismatch = false
local record = redis.call('GET', KEYS[3])
if record and #record == 36 then
  local stored = redis.call('HMGET', ARGV[6] .. record, 'event_id', 'amount', 'charged_amount',
    'unit', 'affected_scopes', 'event_balances', 'overage_policy', 'debt_incurred',
    'request_hash')
  if stored[1] then
    if not stored[9] then return {'FOREIGN', record} end
    if stored[9] == ARGV[7] then return {'REPLAY', unpack(stored, 1, 8)} end
    mismatch = true
  end
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be charged?
local tenant, count = ARGV[4], #KEYS - 4
local budgets = {}
for place = 1, count do
  budgets[#budgets + 1] = read_budget(KEYS[4 + place], ARGV[19 + place], tenant, place)
end
if #budgets == 0 then return {'NO_BUDGET'} end
local amounts = {ARGV[9], '0'}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
for _, state in ipairs({'FROZEN', 'CLOSED'}) do
  for _, budget in ipairs(budgets) do
    if budget.status == state then return {'ERROR', 'BUDGET_' .. state, budget.scope} end
  end
end
local policy = overage_policy(ARGV[11], budgets[#budgets], ARGV[12])
local code, charged, debt = charge(budgets, amounts[2], amounts[1], policy, true)
if code then return {'ERROR', code, charged} end  -- in second place, the scope

-- 3. Charge it.
write_budgets(budgets)
local id = ARGV[8]
local balances = snapshot(budgets)
local kept = ARGV[20 + count]
local fields = {
  'event_id', id, 'tenant', tenant, 'subject_json', ARGV[13], 'action_json', ARGV[14],
  'amount', ARGV[9], 'charged_amount', text(charged), 'unit', ARGV[10],
  'scope_path', ARGV[19 + count], 'affected_scopes', ARGV[18], 'created_at', ms(now),
  'idempotency_key', ARGV[19], 'overage_policy', policy, 'debt_incurred', text(debt),
  'request_hash', ARGV[7], 'event_balances', balances,
}
local function keep(name, value)
  if kept or value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
local scopes = {}
for index, budget in ipairs(budgets) do scopes[index] = '"' .. budget.scope .. '"' end
keep('budgeted_scopes', '[' .. table.concat(scopes, ',') .. ']')
keep('metadata_json', ARGV[15])
keep('metrics_json', ARGV[16])
keep('client_time_ms', ARGV[17])
if kept then
  -- @include reference
  local capped = charged ~= amounts[1] and ',"charged":"' .. text(charged) .. '"' or ''
  keep('event_response_json', '{"status":"APPLIED","event_id":"' .. id .. '"' .. capped
    .. ',"balances":' .. kept_balances(budgets, true, true) .. '}')
end
redis.call('HSET', KEYS[4], unpack(fields))
redis.call('PEXPIRE', KEYS[4], KEPT_MS)
redis.call('SET', KEYS[3], id, 'PX', IDEMPOTENCY_MS)

return {'OK', id, ARGV[9], text(charged), ARGV[10], ARGV[18], balances, policy, text(debt)}
