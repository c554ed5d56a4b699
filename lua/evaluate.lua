#!lua
-- evaluate: would this amount be held? Nothing is, only the answer is kept for a replay.
--
-- KEYS  1 API key record   2 tenant record   3 idempotency record   4 its request hash
--       5.. the budgets of the subject's scopes in the unit, from the tenant down
-- ARGV  1-3 credential, 5 guard (see lib/call)     4 tenant
--       6 decide or dry_run                        7 request hash
--       8 '1' once no scope is known to have a budget in any unit
--       9 amount   10 unit                         11 affected scopes, JSON array
--       12.. the scopes, in the order of the budgets
-- Answers
--   OK or REPLAY, the response body as JSON
--   STALE                     the credential must be read again
--   NO_BUDGET                 no scope has a budget in this unit (and ARGV[8] is not '1')
--   ERROR, code
-- @include call
-- @include amounts
-- @include budgets
-- @include admission
-- @include caps
-- @include wording

local IDEMPOTENCY_MS = 86400000
local UUID_LENGTH = 36

-- Another server's answer has no hash of ours. It was given to another request if it names other
-- scopes, or would have held another amount.
local function answers_this(record)
  local readable, told = pcall(cjson.decode, record)
  if not readable then return true end  -- told when the answer is read
  local scopes, reserved = told.affected_scopes, told.reserved
  if type(scopes) == 'table' then
    for place = 1, math.max(#scopes, #ARGV - 11) do
      if scopes[place] ~= ARGV[11 + place] then return false end
    end
  end
  return type(reserved) ~= 'table'
    or (reserved.unit == ARGV[10] and reserved.amount == tonumber(ARGV[9]))
end

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end
local record = redis.call('GET', KEYS[3])
local mismatch = false
if record then
  if string.sub(record, 1, 1) == '{' then
    local hash = redis.call('GET', KEYS[4])
    if hash == ARGV[7] or (not hash and answers_this(record)) then
      return {'REPLAY', record}
    end
    mismatch = true
  else
    mismatch = #record == UUID_LENGTH  -- the same key holds a live reservation
  end
end
if ARGV[5] == 'UNREADABLE' then return {'ERROR', 'TENANT_UNREADABLE'} end
local closed = ARGV[5] == 'CLOSED'
if mismatch and not closed then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. Would it be held?
local budgets = {}
for place = 1, #KEYS - 4 do
  budgets[#budgets + 1] = read_budget(KEYS[4 + place], ARGV[11 + place], ARGV[4], place)
end
local amounts = {ARGV[9]}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
local reason, caps = nil, ''
if closed then
  reason = 'TENANT_CLOSED'
elseif #budgets == 0 then
  if ARGV[8] ~= '1' then return {'NO_BUDGET'} end
  reason = 'BUDGET_NOT_FOUND'
else
  reason = refusal(budgets, amounts[1])
  local deepest = budgets[#budgets]
  if not reason and deepest.place == #KEYS - 4 then
    caps = caps_of(deepest)
    if not caps then return {'ERROR', 'CORRUPT_BUDGET'} end
  end
end

-- 3. Word the answer. Caps are passed on as they are. The reference keeps it in the same form.
local unit = ARGV[10]
local parts = {'"decision":"' .. (reason and 'DENY' or caps ~= '' and 'ALLOW_WITH_CAPS' or 'ALLOW') .. '"'}
if reason then parts[#parts + 1] = '"reason_code":"' .. reason .. '"' end
if caps ~= '' then parts[#parts + 1] = '"caps":' .. caps end
parts[#parts + 1] = '"affected_scopes":' .. ARGV[11]
if ARGV[6] == 'dry_run' then
  parts[#parts + 1] = '"scope_path":"' .. ARGV[#ARGV] .. '"'
  if not reason then parts[#parts + 1] = '"reserved":' .. amount_json(unit, amounts[1]) end
  parts[#parts + 1] = '"balances":' .. balances_json(unit, budgets)
end
local body = '{' .. table.concat(parts, ',') .. '}'

if not mismatch then
  redis.call('SET', KEYS[3], body, 'PX', IDEMPOTENCY_MS)
  redis.call('SET', KEYS[4], ARGV[7], 'PX', IDEMPOTENCY_MS)
end

return {'OK', body}
