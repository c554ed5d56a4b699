#!lua
-- release: give a hold back to the budgets that still hold it.
--
-- KEYS  1 API key record   2 tenant record   3 the reservation   4 reservation:ttl
--       5 audit entry   6 audit index of the tenant   7 audit index of all
--       8 only where it is to be kept: the reference's record of the answer
-- ARGV  1-3 credential, 5 guard (see lib/call)     4 tenant
--       6 key prefix of budgets                    7 reservation id
--       8 idempotency key   9 request hash
--       10 audit entry JSON ('' for a tenant's own release)   11 its id
--       12 how long it is kept, ms ('0': for ever)
-- Answers
--   OK or REPLAY, estimate, unit, scopes (JSON array), balances
--   FOREIGN                   released under this key by another server
--   STALE                     the credential must be read again
--   ERROR, code
-- @include call
-- @include amounts
-- @include budgets
-- @include holders
-- @include settlement
-- @include holds

local KEPT_MS, DAY_MS = 2592000000, 86400000

-- 1. Who asks, for what, and was it asked before?
if credential_stale() then return {'STALE'} end
local row = redis.call('HMGET', KEYS[3], 'tenant', 'state', 'estimate_amount', 'estimate_unit',
  'expires_at', 'grace_ms', 'affected_scopes', 'budgeted_scopes', 'released_idempotency_key',
  'release_request_hash', 'release_balances', 'created_at')
local tenant, state, estimate_text, unit = row[1], row[2], row[3], row[4]
if not state then return {'ERROR', 'NOT_FOUND'} end
if tenant ~= ARGV[4] then return {'ERROR', 'FORBIDDEN'} end
local scopes_json = given(row[8]) or row[7] or '[]'

local mismatch = false
if state == 'RELEASED' and row[9] == ARGV[8] then
  if not row[11] then return {'FOREIGN'} end
  -- Our hash stood in the reference's field before it had one of its own.
  local hash = row[10] or redis.call('HGET', KEYS[3], 'released_payload_hash')
  if hash == ARGV[9] then
    return {'REPLAY', estimate_text, unit, scopes_json, row[11]}
  end
  mismatch = true
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be released?
local grace = given(row[6]) or '0'
local refused = settlement_refusal(state, row[5], grace)
if refused then return {'ERROR', refused} end
local scopes = holding_scopes(row[7], row[8])
if not scopes then return {'ERROR', 'CORRUPT_RESERVATION'} end
local budgets = held_budgets(ARGV[6], scopes, unit, tenant, row[12])
local amounts = {estimate_text or ''}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
for _, budget in ipairs(budgets) do give_back(budget, amounts[1]) end
if ARGV[10] ~= '' then
  for place = 6, 7 do
    local kind = redis.call('TYPE', KEYS[place]).ok
    if kind ~= 'none' and kind ~= 'zset' then return {'ERROR', 'CORRUPT_AUDIT_INDEX'} end
  end
end

-- 3. Release it. The index comes first: its type is all that could still fail.
redis.call('ZREM', KEYS[4], ARGV[7])
write_holds(budgets)
local balances = snapshot(budgets)
redis.call('HSET', KEYS[3], 'state', 'RELEASED', 'released_at', ms(now),
  'released_idempotency_key', ARGV[8], 'release_request_hash', ARGV[9],
  'release_balances', balances)
if KEYS[8] then
  -- @include wording
  -- @include reference
  redis.call('SET', KEYS[8], '{"status":"RELEASED","released":' .. amount_json(unit, amounts[1])
    .. ',"balances":' .. balances_json(unit, budgets) .. '}', 'PX', KEPT_MS)
  redis.call('HSET', KEYS[3], 'release_response_state', 'BASE', 'release_response_json',
    '{"reservation_id":"' .. ARGV[7] .. '","state":"RELEASED","estimate_amount":"' .. estimate_text
    .. '","estimate_unit":"' .. unit .. '","affected_scopes_json":' .. quoted(row[7] or scopes_json)
    .. ',"balances":' .. kept_balances(budgets) .. '}')
end
-- No shorter than its idempotency record, or a late replay would hold once more.
redis.call('PEXPIRE', KEYS[3], ms(math.max(KEPT_MS, row[5] + grace + DAY_MS - now)))

-- 4. Leave the operator's entry for the audit.
if ARGV[10] ~= '' then
  redis.call('SET', KEYS[5], ARGV[10])
  if ARGV[12] ~= '0' then redis.call('PEXPIRE', KEYS[5], ARGV[12]) end
  redis.call('ZADD', KEYS[6], ms(now), ARGV[11])
  redis.call('ZADD', KEYS[7], ms(now), ARGV[11])
end

return {'OK', estimate_text, unit, scopes_json, balances}
