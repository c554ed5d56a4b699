#!lua
-- release: give a hold back to the budgets that still hold it.
--
-- KEYS  the head (see lib/call), reservation, expiries (reservation:ttl), audit_record,
--         audit_of_tenant and audit_of_all (indexes), kept (only where it is to be kept: the
--         reference's record of the answer)
-- ARGV  the head; budget_prefix: of keys; audit_entry: JSON ('' for a tenant's own release);
--         audit_id; audit_kept_ms ('0': for ever)
-- Answers
--   OK or REPLAY, estimate, unit, scopes (JSON array), balances
--   FOREIGN                   released under this key by another server
--   STALE                     the credential must be read again
--   ERROR, code
-- @include clock
-- @include call
local reservation, expiries, audit_record, audit_of_tenant, audit_of_all, kept =
  unpack(KEYS, HEAD_KEYS + 1)
local budget_prefix, reservation_id, idempotency_key, request_hash, audit_entry, audit_id,
  audit_kept_ms = unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include retention
-- @include amounts
-- @include budgets
-- @include holders
-- @include settlement
-- @include holds

-- 1. Who asks, for what, and was it asked before?
if credential_stale() then return {'STALE'} end
local row = redis.call('HMGET', reservation, 'tenant', 'state', 'estimate_amount', 'estimate_unit',
  'expires_at', 'grace_ms', 'affected_scopes', 'budgeted_scopes', 'released_idempotency_key',
  'release_request_hash', 'release_balances', 'created_at')
local owner, state, estimate_text, unit = row[1], row[2], row[3], row[4]
if not state then return {'ERROR', 'NOT_FOUND'} end
if owner ~= tenant then return {'ERROR', 'FORBIDDEN'} end
local scopes_json = given(row[8]) or row[7] or '[]'

local mismatch = false
if state == 'RELEASED' and row[9] == idempotency_key then
  if not row[11] then return {'FOREIGN'} end
  -- Our hash stood in the reference's field before it had one of its own.
  local hash = row[10] or redis.call('HGET', reservation, 'released_payload_hash')
  if hash == request_hash then
    return {'REPLAY', estimate_text, unit, scopes_json, row[11]}
  end
  mismatch = true
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be released?
local expires, grace = whole(row[5]), whole(given(row[6]) or '0')
local refused = settlement_refusal(state, unit, expires, grace)
if refused then return {'ERROR', refused} end
local scopes = holding_scopes(row[7], row[8])
if not scopes then return {'ERROR', 'CORRUPT_RESERVATION'} end
local budgets = held_budgets(budget_prefix, scopes, unit, tenant, row[12])
local amounts = {estimate_text or ''}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
for _, budget in ipairs(budgets) do give_back(budget, amounts[1]) end
if audit_entry ~= '' then
  for _, index in ipairs({audit_of_tenant, audit_of_all}) do
    local kind = redis.call('TYPE', index).ok
    if kind ~= 'none' and kind ~= 'zset' then return {'ERROR', 'CORRUPT_AUDIT_INDEX'} end
  end
end

-- 3. Release it. The index comes first: its type is all that could still fail.
redis.call('ZREM', expiries, reservation_id)
write_holds(budgets)
local balances = snapshot(budgets)
redis.call('HSET', reservation, 'state', 'RELEASED', 'released_at', ms(now),
  'released_idempotency_key', idempotency_key, 'release_request_hash', request_hash,
  'release_balances', balances)
if kept then
  -- @include wording
  -- @include reference
  redis.call('SET', kept, '{"status":"RELEASED","released":' .. amount_json(unit, amounts[1])
    .. ',"balances":' .. balances_json(unit, budgets) .. '}', 'PX', KEPT_MS)
  redis.call('HSET', reservation, 'release_response_state', 'BASE', 'release_response_json',
    '{"reservation_id":"' .. reservation_id .. '","state":"RELEASED","estimate_amount":"'
    .. estimate_text .. '","estimate_unit":"' .. unit .. '","affected_scopes_json":'
    .. quoted(row[7] or scopes_json) .. ',"balances":' .. kept_balances(budgets) .. '}')
end
-- No shorter than its idempotency record, or a late replay would hold once more.
redis.call('PEXPIRE', reservation, ms(math.max(KEPT_MS, expires + grace + IDEMPOTENCY_MS - now)))

-- 4. Leave the operator's entry for the audit.
if audit_entry ~= '' then
  redis.call('SET', audit_record, audit_entry)
  if audit_kept_ms ~= '0' then redis.call('PEXPIRE', audit_record, audit_kept_ms) end
  redis.call('ZADD', audit_of_tenant, ms(now), audit_id)
  redis.call('ZADD', audit_of_all, ms(now), audit_id)
end

return {'OK', estimate_text, unit, scopes_json, balances}
