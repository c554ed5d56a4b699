#!lua
-- extend: move a live reservation's expiry outward; holds and budgets stay as they are.
--
-- KEYS  the head (see lib/call), reservation, expiries (reservation:ttl), extension_record (the
--         reference's record of this extension)
-- ARGV  the head; budget_prefix and reserve_prefix: of budgets' and reserves' idempotency
--         records' keys
-- Answers
--   OK or REPLAY, now, state, expires_at, unit, scopes (JSON array), balances
--   FOREIGN, now, state, record   extended under this key by another server
--   STALE                     the credential must be read again
--   ERROR, code
-- @include clock
-- @include call
local reservation, expiries, extension_record = unpack(KEYS, HEAD_KEYS + 1)
local budget_prefix, reservation_id, idempotency_key, request_hash, extend_by_ms, reserve_prefix =
  unpack(ARGV, HEAD_ARGUMENTS + 1)
-- @include retention
-- @include amounts
-- @include budgets
-- @include holders
-- @include defaults
-- @include reference

-- 1. Who asks, for what, and was it asked before?
if credential_stale() then return {'STALE'} end
local field = 'extend:' .. idempotency_key
local row = redis.call('HMGET', reservation, 'tenant', 'state', 'estimate_unit', 'expires_at',
  'grace_ms', 'affected_scopes', 'budgeted_scopes', 'max_extensions', 'extension_count',
  'idempotency_key', field)
local owner, state, unit = row[1], row[2], row[3]
if not state then return {'ERROR', 'NOT_FOUND'} end
if owner ~= tenant then return {'ERROR', 'FORBIDDEN'} end
local scopes_json = given(row[7]) or row[6] or '[]'

local mismatch = false
if row[11] then
  local hash, expires, balances = string.match(row[11], '^(%S+) (%d+) (.*)$')
  if hash == request_hash then
    return {'REPLAY', ms(now), state, expires, unit, scopes_json, balances}
  end
  mismatch = true
else
  local theirs = redis.call('GET', extension_record)
  if theirs then return {'FOREIGN', ms(now), state, theirs} end
end
local guard = guarded()
if guard then return guard end
if mismatch then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. May it be extended?
if state == 'COMMITTED' or state == 'RELEASED' then return {'ERROR', 'RESERVATION_FINALIZED'} end
local expires, grace = whole(row[4]), whole(given(row[5]) or '0')
local count, most = whole(given(row[9]) or '0'), DEFAULT_MAX_EXTENSIONS
if given(row[8]) then most = whole(row[8]) end
if not (given(unit) and expires and grace and count and most) then
  return {'ERROR', 'CORRUPT_RESERVATION'}
end
if state ~= 'ACTIVE' or now > expires then return {'ERROR', 'RESERVATION_EXPIRED'} end
if count >= most then return {'ERROR', 'MAX_EXTENSIONS_EXCEEDED'} end
local scopes = holding_scopes(row[6], row[7])
if not scopes then return {'ERROR', 'CORRUPT_RESERVATION'} end
local budgets = held_budgets(budget_prefix, scopes, unit, tenant)
if not load_amounts(budgets, {}) then return {'ERROR', 'CORRUPT_BUDGET'} end

-- 3. Extend it. The index comes first: its type is all that could still fail.
expires = expires + tonumber(extend_by_ms)
redis.call('ZADD', expiries, ms(expires), reservation_id)
local rows, kept = {}, {}
for index, budget in ipairs(budgets) do
  -- Nothing moves: the amounts are told as they are stored.
  local row = budget.row
  rows[index] = balance_row(budget, row[REMAINING], row[RESERVED], row[SPENT], row[ALLOCATED])
  kept[index] = kept_row(budget, row[REMAINING], row[RESERVED], row[SPENT], row[DEBT]) .. '}'
end
local balances = table.concat(rows, ';')
redis.call('HSET', reservation, 'expires_at', ms(expires), 'extension_count', ms(count + 1),
  field, request_hash .. ' ' .. ms(expires) .. ' ' .. balances)
redis.call('SET', extension_record, '{"reservation_id":"' .. reservation_id
  .. '","estimate_unit":"' .. unit .. '","expires_at_ms":' .. ms(expires)
  .. ',"extended_at":' .. ms(now)
  .. ',"remaining_ttl_ms":' .. ms(expires - now)
  .. ',"balances":[' .. table.concat(kept, ',') .. ']}', 'PXAT', ms(expires))
if given(row[10]) then
  redis.call('PEXPIREAT', reserve_prefix .. row[10],
    ms(expires + grace + IDEMPOTENCY_MS), 'GT')
end

return {'OK', ms(now), state, ms(expires), unit, scopes_json, balances}
