#!lua
-- reserve: hold an amount on every budget of a subject, or on none.
--
-- KEYS  1 API key record        2 tenant record       3 idempotency record
--       4 the new reservation   5 reservation:ttl     6 the tenant's index by creation
--       7.. the budgets of the subject's scopes in the asked unit, from the tenant down
--       and last, only where it is to be kept: the reference's record of the answer
-- ARGV  1-3 credential, 5 guard (see lib/call)        4 tenant
--       6 key prefix of reservations                  7 request hash
--       8 the new reservation's id                    9 amount       10 unit
--       11 ttl ms   12 grace ms                       13 policy asked for, or ''
--       14 the tenant's default policy, or ''         15 max extensions
--       16 subject JSON   17 action JSON              18 metadata JSON, or ''
--       19 affected scopes, JSON array                20 idempotency key
--       21.. the scopes, in the order of the budgets
-- Answers
--   OK, expires_at, policy, caps JSON or '', balances
--   REPLAY, now, the stored fields that the answer is made of
--   FOREIGN, now, id          the key belongs to a reservation that another server made
--   STALE                     the credential must be read again
--   NO_BUDGET                 no scope has a budget in this unit
--   ERROR, code [, scope]
-- @include call
-- @include amounts
-- @include budgets
-- @include admission
-- @include policies
-- @include caps

local IDEMPOTENCY_MS = 86400000
local SCOPES_AT = 20

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end

local mismatch = false
local record = redis.call('GET', KEYS[3])
if record then
  if #record == 36 then
    local stored = redis.call('HMGET', ARGV[6] .. record, 'request_hash', 'reservation_id',
      'estimate_amount', 'estimate_unit', 'created_at', 'lease_ms', 'state', 'scope_path',
      'affected_scopes', 'caps_json', 'reserve_balances', 'overage_policy')
    if stored[2] then
      if not stored[1] then return {'FOREIGN', ms(now), record} end
      if stored[1] == ARGV[7] then return {'REPLAY', ms(now), unpack(stored, 2, 12)} end
      mismatch = true
    end
  else
    mismatch = string.sub(record, 1, 1) == '{'  -- the same key was used for a dry run
  end
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be held?
local tenant, count = ARGV[4], #ARGV - SCOPES_AT
local budgets = {}
for place = 1, count do
  budgets[#budgets + 1] = read_budget(KEYS[6 + place], ARGV[SCOPES_AT + place], tenant, place)
end
if #budgets == 0 then return {'NO_BUDGET'} end
local amounts = {ARGV[9]}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
local amount = amounts[1]

local code, refusing = refusal(budgets, amount)
if code then return {'ERROR', code, refusing.scope} end

local deepest = budgets[#budgets]
local policy = overage_policy(ARGV[13], deepest, ARGV[14])
local caps = ''
if deepest.place == count then caps = caps_of(deepest) end
if not caps then return {'ERROR', 'CORRUPT_BUDGET'} end
for index = 1, #budgets do
  local budget = budgets[index]
  budget.remaining = budget.remaining - amount
  budget.reserved = budget.reserved + amount
  if not fits(budget.reserved) then return {'ERROR', 'BUDGET_EXCEEDED', budget.scope} end
end

-- 3. Hold it. The indexes come first: their type is all that could still fail.
local id, created, expires = ARGV[8], ms(now), now + ARGV[11]
local expires_at = ms(expires)
redis.call('ZADD', KEYS[5], expires_at, id)
redis.call('ZADD', KEYS[6], created, id)
local rows = {}
for index = 1, #budgets do
  local budget = budgets[index]
  local remaining, reserved = text(budget.remaining), text(budget.reserved)
  redis.call('HSET', budget.key, 'remaining', remaining, 'reserved', reserved)
  rows[index] = balance_row(budget, remaining, reserved, budget.row[SPENT],
    budget.row[ALLOCATED])
end
local balances = table.concat(rows, ';')
redis.call('HSET', KEYS[4],
  'reservation_id', id, 'tenant', tenant, 'state', 'ACTIVE', 'subject_json', ARGV[16],
  'action_json', ARGV[17], 'estimate_amount', ARGV[9], 'estimate_unit', ARGV[10],
  'scope_path', ARGV[#ARGV], 'affected_scopes', ARGV[19], 'created_at', created,
  'expires_at', expires_at, 'grace_ms', ARGV[12], 'idempotency_key', ARGV[20],
  'overage_policy', policy, 'max_extensions', ARGV[15], 'extension_count', '0',
  'request_hash', ARGV[7], 'lease_ms', ARGV[11], 'reserve_balances', balances)
local kept = KEYS[7 + count]
if kept or #budgets < count then
  local scopes = {}
  for index, budget in ipairs(budgets) do scopes[index] = '"' .. budget.scope .. '"' end
  redis.call('HSET', KEYS[4], 'budgeted_scopes', '[' .. table.concat(scopes, ',') .. ']')
end
if kept or ARGV[18] ~= '' then redis.call('HSET', KEYS[4], 'metadata_json', ARGV[18]) end
if caps ~= '' then redis.call('HSET', KEYS[4], 'caps_json', caps) end
redis.call('SET', KEYS[3], id, 'PXAT', ms(expires + ARGV[12] + IDEMPOTENCY_MS))
if kept then
  -- @include wording
  -- @include reference
  local unit, path = ARGV[10], ARGV[#ARGV]
  redis.call('SET', kept, '{"decision":"' .. (caps ~= '' and 'ALLOW_WITH_CAPS' or 'ALLOW')
    .. '","reservation_id":"' .. id .. '","affected_scopes":' .. ARGV[19] .. ',"expires_at_ms":'
    .. expires_at .. ',"remaining_ttl_ms":' .. ARGV[11] .. ',"scope_path":"' .. path
    .. '","reserved":' .. amount_json(unit, amount) .. (caps ~= '' and ',"caps":' .. caps or '')
    .. ',"balances":' .. balances_json(unit, budgets) .. '}', 'PX', IDEMPOTENCY_MS)
  redis.call('HSET', KEYS[4], 'reserve_response_state', 'BASE', 'reserve_response_json',
    '{"reservation_id":"' .. id .. '","state":"ACTIVE","estimate_amount":"' .. ARGV[9]
    .. '","estimate_unit":"' .. unit .. '","expires_at":"' .. expires_at
    .. '","remaining_ttl_ms":' .. ARGV[11] .. ',"scope_path":"' .. path
    .. '","affected_scopes":' .. ARGV[19] .. ',"caps_json":'
    .. (caps ~= '' and quoted(caps) or 'false')
    .. ',"balances":' .. kept_balances(budgets, true) .. '}')
end

return {'OK', expires_at, policy, caps, balances}
