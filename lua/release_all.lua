#!lua
-- release_all: release some of a closed tenant's reservations, each with its audit entry.
--
-- KEYS  tenant_record, expiries (reservation:ttl), audit_of_tenant, audit_of_all; behind them the
--         reservations
-- ARGV  tenant; budget_prefix, audit_prefix (of keys); audit_members: of each entry, as JSON without
--         braces; audit_kept_ms; behind them the reservations' ids
-- Answers  one word for each reservation: RELEASED; OVER (no record, one that has ended, or another
--   tenant's); DAMAGED. Or ERROR, code.
-- @include clock
-- @include instants
-- @include audit
local tenant_record, expiries, audit_of_tenant, audit_of_all = unpack(KEYS)
local tenant, budget_prefix, audit_prefix, audit_members, audit_kept_ms = unpack(ARGV)
local RESERVATIONS_AFTER, IDS_AFTER = 4, 5
-- @include closed
-- @include retention
-- @include amounts
-- @include budgets
-- @include holders
-- @include holds
-- @include batch

-- 1. Which of them are there to be released?
local refused = still_open() or damaged_index({audit_of_tenant, audit_of_all})
if refused then return refused end
local answers, due = {}, {}
for place = 1, #KEYS - RESERVATIONS_AFTER do
  local row = redis.call('HMGET', KEYS[RESERVATIONS_AFTER + place], 'state', 'tenant',
    'estimate_amount', 'estimate_unit', 'affected_scopes', 'budgeted_scopes', 'created_at',
    'expires_at', 'grace_ms')
  if row[1] ~= 'ACTIVE' or row[2] ~= tenant then
    answers[place] = 'OVER'
  elseif not given(row[4]) or not string.find(row[3] or '', '^%d+$') or #row[3] > 19 then
    answers[place] = 'DAMAGED'
  else
    local scopes = holding_scopes(row[5], row[6])
    answers[place] = scopes and 'RELEASED' or 'DAMAGED'
    if scopes then
      local expires, grace = whole(row[8]), whole(given(row[9]) or '0')
      due[#due + 1] = {place = place, amount = row[3], unit = row[4], scopes = scopes,
        created_at = row[7], ends = expires and grace and expires + grace or now}
    end
  end
end

-- 2. What goes back to which budget?
local budgets = give_all_back(due, budget_prefix, tenant)
if not budgets then return {'ERROR', 'CORRUPT_BUDGET'} end

-- 3. Release them. The index comes first: its type is all that could still fail.
for _, reservation in ipairs(due) do
  redis.call('ZREM', expiries, ARGV[IDS_AFTER + reservation.place])
end
write_holds(budgets)
for _, reservation in ipairs(due) do
  local id = ARGV[IDS_AFTER + reservation.place]
  local record = KEYS[RESERVATIONS_AFTER + reservation.place]
  redis.call('HSET', record, 'state', 'RELEASED', 'released_at', ms(now), 'released_reason',
    'tenant_closed')
  redis.call('PEXPIRE', record,
    ms(math.max(KEPT_MS, reservation.ends + IDEMPOTENCY_MS - now)))
  leave_entry('reservation.released_via_tenant_cascade', 'reservation', id,
    '"prior_status":"ACTIVE","new_status":"RELEASED","unit":"' .. reservation.unit
    .. '","released_amount":' .. reservation.amount)
end

return answers
