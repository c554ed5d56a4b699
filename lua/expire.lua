#!lua
-- expire: give back the holds of one tenant's lapsed reservations, a batch at a time.
--
-- KEYS  expiries (reservation:ttl), quarantine (what was set aside of it); behind them the
--         reservations
-- ARGV  tenant, budget_prefix (of keys); behind them the reservations' ids
-- Answers  one word for each reservation: EXPIRED; GONE (no record, or one that has ended:
--   only the index entry went); WAITING (still in its grace); a reason for setting it aside:
--   INVALID_EXPIRY, INVALID_ESTIMATE, MISSING_SCOPES, MALFORMED_SCOPES. Or ERROR, code.
-- @include clock
local expiries, quarantine = unpack(KEYS)
local tenant, budget_prefix = unpack(ARGV)
local RESERVATIONS_AFTER, IDS_AFTER = 2, 2
-- @include retention
-- @include amounts
-- @include budgets
-- @include holders
-- @include holds
-- @include batch

-- 1. Which of them have lapsed?
local answers, due = {}, {}
for place = 1, #KEYS - RESERVATIONS_AFTER do
  local row = redis.call('HMGET', KEYS[RESERVATIONS_AFTER + place], 'state', 'tenant',
    'expires_at', 'grace_ms', 'estimate_amount', 'estimate_unit', 'affected_scopes',
    'budgeted_scopes', 'created_at')
  local expires, grace = whole(row[3]), whole(given(row[4]) or '0')
  if row[1] ~= 'ACTIVE' then
    answers[place] = 'GONE'
  elseif not given(row[2]) then
    answers[place] = 'MISSING_SCOPES'  -- without a tenant it holds nobody's budgets
  elseif row[2] ~= tenant then
    answers[place] = 'WAITING'  -- another tenant's: not this call's business
  elseif not expires or not grace then
    answers[place] = 'INVALID_EXPIRY'
  elseif now <= expires + grace then
    answers[place] = 'WAITING'
  elseif not given(row[6]) or not string.find(row[5] or '', '^%d+$') or #row[5] > 19 then
    answers[place] = 'INVALID_ESTIMATE'
  else
    local scopes, reason = holding_scopes(row[7], row[8])
    answers[place] = reason or 'EXPIRED'
    if scopes then
      due[#due + 1] = {amount = row[5], unit = row[6], scopes = scopes, created_at = row[9]}
    end
  end
end

-- 2. What goes back to which budget?
local budgets = give_all_back(due, budget_prefix, tenant)
if not budgets then return {'ERROR', 'CORRUPT_BUDGET'} end

-- 3. Set aside what cannot be settled; then nothing but what waits is due any more. The indexes
--    come before the amounts: their type is all that could still fail. Of the two, expiries come
--    last: what has gone from there without being settled would never be looked at again.
local over = {}
for place, answer in ipairs(answers) do
  local id = ARGV[IDS_AFTER + place]
  if answer ~= 'WAITING' then
    if answer ~= 'EXPIRED' and answer ~= 'GONE' then
      redis.call('ZADD', quarantine, ms(now), id)
    end
    over[#over + 1] = id
  end
end
if #over > 0 then redis.call('ZREM', expiries, unpack(over)) end

-- 4. Give the others back.
write_holds(budgets)
for place, answer in ipairs(answers) do
  if answer == 'EXPIRED' then
    local reservation = KEYS[RESERVATIONS_AFTER + place]
    redis.call('HSET', reservation, 'state', 'EXPIRED', 'expired_at', ms(now))
    redis.call('PEXPIRE', reservation, KEPT_MS)
  end
end

return answers
