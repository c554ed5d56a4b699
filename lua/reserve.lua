#!lua
-- reserve: hold an amount on every budget of a subject, or on none.
--
-- KEYS  the head (see lib/call), idempotency_record, reservation (the new one), expiries
--         (reservation:ttl), creations (the tenant's index by creation), policies (see
--         lib/rulings); behind them the budgets of the subject's scopes in the asked unit, from the
--         tenant down, and the policies that could govern; then, only where reserves are limited,
--         their counter, and, only where it is to be kept, the reference's record of the answer
-- ARGV  the head; reservation_prefix (of keys); asked_policy and default_policy: what is asked for
--         or ruled, and the tenant's own, or ''; subject, action: JSON; metadata: JSON or '';
--         scopes_json: the affected scopes as an array; policies_known, policy_count, policy_until:
--         see lib/rulings; policy_caps: see lib/caps; policy_limit: reserves in a minute, at
--         most, or ''; behind them the scopes, in the order of the budgets, and the policies'
--         records
-- Answers
--   OK, expires_at, policy, caps JSON or '', balances
--   REPLAY, now, the stored fields that the answer is made of
--   FOREIGN, now, id          the key belongs to a reservation that another server made
--   STALE                     the credential, or the policies, must be read again
--   LIMITED, ms               there were as many reserves as the policy allows; ms to the next minute
--   NO_BUDGET                 no scope has a budget in this unit
--   ERROR, code [, scope]
-- @include clock
-- @include call
local idempotency_record, reservation, expiries, creations, policies =
  unpack(KEYS, HEAD_KEYS + 1)
local reservation_prefix, request_hash, reservation_id, estimate, unit, lease_ms, grace_ms,
  asked_policy, default_policy, max_extensions, subject, action, metadata, scopes_json,
  idempotency_key, policies_known, policy_count, policy_until, policy_caps,
  policy_limit =
  unpack(ARGV, HEAD_ARGUMENTS + 1)
local BUDGETS_AFTER, SCOPES_AFTER = HEAD_KEYS + 5, HEAD_ARGUMENTS + 20
-- @include retention
-- @include amounts
-- @include budgets
-- @include admission
-- @include defaults
-- @include policies
-- @include caps
-- @include rulings

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end

local mismatch = false
local record = redis.call('GET', idempotency_record)
if record then
  if #record == 36 then
    local stored = redis.call('HMGET', reservation_prefix .. record, 'request_hash',
      'reservation_id', 'estimate_amount', 'estimate_unit', 'created_at', 'lease_ms', 'state',
      'scope_path',
      'affected_scopes', 'caps_json', 'reserve_balances', 'overage_policy')
    if stored[2] then
      if not stored[1] then return {'FOREIGN', ms(now), record} end
      if stored[1] == request_hash then return {'REPLAY', ms(now), unpack(stored, 2, 12)} end
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
local count = #ARGV - SCOPES_AFTER - policy_count
if policies_changed(BUDGETS_AFTER + count, SCOPES_AFTER + count) then return {'STALE'} end
local more_after = BUDGETS_AFTER + count + policy_count
if policy_limit ~= '' then
  more_after = more_after + 1
  -- Asked for is asked for: also what its budgets refuse counts.
  local counter, minute = KEYS[more_after], 60000
  local made = redis.call('INCR', counter)
  if made == 1 then redis.call('PEXPIREAT', counter, ms(now - now % minute + minute)) end
  if made > tonumber(policy_limit) then return {'LIMITED', ms(minute - now % minute)} end
end
local budgets = {}
for place = 1, count do
  budgets[#budgets + 1] =
    read_budget(KEYS[BUDGETS_AFTER + place], ARGV[SCOPES_AFTER + place], tenant, place)
end
if #budgets == 0 then return {'NO_BUDGET'} end
local amounts = {estimate}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
local amount = amounts[1]

local code, refusing = refusal(budgets, amount)
if code then return {'ERROR', code, refusing.scope} end

local deepest = budgets[#budgets]
local policy = overage_policy(asked_policy, deepest, default_policy)
local caps = ''
if deepest.place == count then caps = caps_of(deepest) end
if not caps then return {'ERROR', 'CORRUPT_BUDGET'} end
caps = ruled_caps(caps, policy_caps)
for index = 1, #budgets do
  local budget = budgets[index]
  budget.remaining = budget.remaining - amount
  budget.reserved = budget.reserved + amount
  if not fits(budget.reserved) then return {'ERROR', 'BUDGET_EXCEEDED', budget.scope} end
end

-- 3. Hold it. The indexes come first: their type is all that could still fail. Where it does at the
--    second, the first is as it was.
local created, expires = ms(now), now + lease_ms
local expires_at = ms(expires)
redis.call('ZADD', expiries, expires_at, reservation_id)
local indexed = redis.pcall('ZADD', creations, created, reservation_id)
if type(indexed) == 'table' then
  redis.call('ZREM', expiries, reservation_id)
  return indexed
end
local rows = {}
for index = 1, #budgets do
  local budget = budgets[index]
  local remaining, reserved = text(budget.remaining), text(budget.reserved)
  redis.call('HSET', budget.key, 'remaining', remaining, 'reserved', reserved)
  rows[index] = balance_row(budget, remaining, reserved, budget.row[SPENT],
    budget.row[ALLOCATED])
end
local balances = table.concat(rows, ';')
redis.call('HSET', reservation,
  'reservation_id', reservation_id, 'tenant', tenant, 'state', 'ACTIVE', 'subject_json', subject,
  'action_json', action, 'estimate_amount', estimate, 'estimate_unit', unit,
  'scope_path', ARGV[SCOPES_AFTER + count], 'affected_scopes', scopes_json, 'created_at', created,
  'expires_at', expires_at, 'grace_ms', grace_ms, 'idempotency_key', idempotency_key,
  'overage_policy', policy, 'max_extensions', max_extensions, 'extension_count', '0',
  'request_hash', request_hash, 'lease_ms', lease_ms, 'reserve_balances', balances)
local kept = KEYS[more_after + 1]
if kept or #budgets < count then
  local scopes = {}
  for index, budget in ipairs(budgets) do scopes[index] = '"' .. budget.scope .. '"' end
  redis.call('HSET', reservation, 'budgeted_scopes', '[' .. table.concat(scopes, ',') .. ']')
end
if kept or metadata ~= '' then redis.call('HSET', reservation, 'metadata_json', metadata) end
if caps ~= '' then redis.call('HSET', reservation, 'caps_json', caps) end
redis.call('SET', idempotency_record, reservation_id, 'PXAT',
  ms(expires + grace_ms + IDEMPOTENCY_MS))
if kept then
  -- @include wording
  -- @include reference
  local path = ARGV[SCOPES_AFTER + count]
  redis.call('SET', kept, '{"decision":"' .. (caps ~= '' and 'ALLOW_WITH_CAPS' or 'ALLOW')
    .. '","reservation_id":"' .. reservation_id .. '","affected_scopes":' .. scopes_json
    .. ',"expires_at_ms":' .. expires_at .. ',"remaining_ttl_ms":' .. lease_ms
    .. ',"scope_path":"' .. path
    .. '","reserved":' .. amount_json(unit, amount) .. (caps ~= '' and ',"caps":' .. caps or '')
    .. ',"balances":' .. balances_json(unit, budgets) .. '}', 'PX', IDEMPOTENCY_MS)
  redis.call('HSET', reservation, 'reserve_response_state', 'BASE', 'reserve_response_json',
    '{"reservation_id":"' .. reservation_id .. '","state":"ACTIVE","estimate_amount":"' .. estimate
    .. '","estimate_unit":"' .. unit .. '","expires_at":"' .. expires_at
    .. '","remaining_ttl_ms":' .. lease_ms .. ',"scope_path":"' .. path
    .. '","affected_scopes":' .. scopes_json .. ',"caps_json":'
    .. (caps ~= '' and quoted(caps) or 'false')
    .. ',"balances":' .. kept_balances(budgets, true) .. '}')
end

return {'OK', expires_at, policy, caps, balances}
