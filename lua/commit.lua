#!lua
-- commit: charge what was really used, and give back the rest of the hold.
--
-- KEYS  the head (see lib/call), reservation, expiries (reservation:ttl), kept (only where it is
--         to be kept: the reference's record of the answer)
-- ARGV  the head; budget_prefix: of keys (which budgets, the reservation says); metrics, metadata:
--         JSON or ''
-- Answers
--   OK or REPLAY, charged, estimate, unit, scopes (JSON array), balances, policy, debt
--   FOREIGN                   committed under this key by another server
--   UNIT_MISMATCH, unit of the estimate, scopes
--   STALE                     the credential must be read again
--   ERROR, code [, scope]
-- @include clock
-- @include call
local reservation, expiries, kept = unpack(KEYS, HEAD_KEYS + 1)
local budget_prefix, reservation_id, idempotency_key, request_hash, actual, actual_unit, metrics,
  metadata = unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include retention
-- @include amounts
-- @include budgets
-- @include holders
-- @include settlement
-- @include holds
-- @include charge
-- @include defaults

-- 1. Who asks, for what, and was it asked before?
if credential_stale() then return {'STALE'} end
local row = redis.call('HMGET', reservation, 'tenant', 'state', 'estimate_amount', 'estimate_unit',
  'expires_at', 'grace_ms', 'overage_policy', 'affected_scopes', 'budgeted_scopes',
  'committed_idempotency_key', 'commit_request_hash', 'charged_amount', 'commit_balances',
  'debt_incurred', 'created_at')
local owner, state, estimate_text, unit = row[1], row[2], row[3], row[4]
if not state then return {'ERROR', 'NOT_FOUND'} end
if owner ~= tenant then return {'ERROR', 'FORBIDDEN'} end
local scopes_json = given(row[9]) or row[8] or '[]'

local mismatch = false
if state == 'COMMITTED' and row[10] == idempotency_key then
  if not row[13] then return {'FOREIGN'} end
  -- Our hash stood in the reference's field before it had one of its own.
  local hash = row[11] or redis.call('HGET', reservation, 'committed_payload_hash')
  if hash == request_hash then
    return {'REPLAY', row[12], estimate_text, unit, scopes_json, row[13], row[7] or '', row[14]}
  end
  mismatch = true
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be charged?
local expires, grace = whole(row[5]), whole(given(row[6]) or '0')
local refused = settlement_refusal(state, unit, expires, grace)
if refused then return {'ERROR', refused} end
local scopes = holding_scopes(row[8], row[9])
if not scopes then return {'ERROR', 'CORRUPT_RESERVATION'} end
if unit ~= actual_unit then return {'UNIT_MISMATCH', unit, scopes_json} end

local policy = given(row[7]) or DEFAULT_OVERAGE_POLICY
local budgets = held_budgets(budget_prefix, scopes, unit, tenant, row[15])
local amounts = {estimate_text or '', actual}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
local code, charged, debt = charge(budgets, amounts[1], amounts[2], policy)
if code then return {'ERROR', code, charged} end  -- in second place, the scope

-- 3. Charge it. The index comes first: its type is all that could still fail.
redis.call('ZREM', expiries, reservation_id)
write_budgets(budgets)
local balances = snapshot(budgets)
local fields = {
  'state', 'COMMITTED', 'charged_amount', text(charged), 'debt_incurred', text(debt),
  'committed_at', ms(now), 'committed_idempotency_key', idempotency_key,
  'commit_request_hash', request_hash, 'commit_balances', balances,
}
local last = #fields
if kept or metrics ~= '' then
  fields[last + 1], fields[last + 2], last = 'committed_metrics_json', metrics, last + 2
end
if kept or metadata ~= '' then
  fields[last + 1], fields[last + 2], last = 'committed_metadata_json', metadata, last + 2
end
if kept then
  -- @include wording
  -- @include reference
  local estimate, released = amounts[1], ''
  if charged < estimate then
    released = ',"released":' .. amount_json(unit, estimate - charged)
  end
  redis.call('SET', kept, '{"status":"COMMITTED","charged":' .. amount_json(unit, charged)
    .. released .. ',"balances":' .. balances_json(unit, budgets) .. '}', 'PX', KEPT_MS)
  fields[last + 1], fields[last + 2] = 'commit_response_state', 'BASE'
  fields[last + 3], fields[last + 4] = 'commit_response_json', '{"reservation_id":"'
    .. reservation_id .. '","state":"COMMITTED","estimate_amount":"' .. estimate_text
    .. '","estimate_unit":"' .. unit .. '","scope_path":'
    .. quoted(redis.call('HGET', reservation, 'scope_path') or '')
    .. ',"affected_scopes_json":' .. quoted(row[8] or scopes_json)
    .. ',"overage_policy":"' .. policy .. '","charged":"' .. text(charged)
    .. '","debt_incurred":"' .. text(debt)
    .. '","balances":' .. kept_balances(budgets, true, true) .. '}'
end
redis.call('HSET', reservation, unpack(fields))
-- No shorter than its idempotency record, or a late replay would hold once more.
redis.call('PEXPIRE', reservation, ms(math.max(KEPT_MS, expires + grace + IDEMPOTENCY_MS - now)))

return {'OK', text(charged), estimate_text, unit, scopes_json, balances, policy, text(debt)}
