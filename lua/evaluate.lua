#!lua
-- evaluate: would this amount be held? Nothing is, only the answer is kept for a replay.
--
-- KEYS  the head (see lib/call), idempotency_record, hash_record (of the request beside it),
--         policies (see lib/rulings); behind them the budgets of the subject's scopes in the unit,
--         from the tenant down, and the policies that could govern
-- ARGV  the head; kind: decide or dry_run; no_budget: '1' once no scope is known to have a budget
--         in any unit; scopes_json: the affected scopes as an array; policies_known, policy_count,
--         policy_until: see lib/rulings; policy_caps: see lib/caps; behind them the scopes, in the
--         order of the budgets, and the policies' records
-- Answers
--   OK or REPLAY, the response body as JSON
--   STALE                     the credential, or the policies, must be read again
--   NO_BUDGET                 no scope has a budget in this unit (and no_budget is not '1')
--   ERROR, code
-- @include clock
-- @include call
local idempotency_record, hash_record, policies = unpack(KEYS, HEAD_KEYS + 1)
local kind, request_hash, no_budget, estimate, unit, scopes_json, policies_known, policy_count,
  policy_until, policy_caps = unpack(ARGV, HEAD_ARGUMENTS + 1)
local BUDGETS_AFTER, SCOPES_AFTER = HEAD_KEYS + 3, HEAD_ARGUMENTS + 10
local count = #ARGV - SCOPES_AFTER - policy_count
-- @include retention
-- @include amounts
-- @include budgets
-- @include admission
-- @include caps
-- @include rulings
-- @include wording

local UUID_LENGTH = 36

-- Another server's answer has no hash of ours. It was given to another request if it names other
-- scopes, or would have held another amount.
local function answers_this(record)
  local readable, told = pcall(cjson.decode, record)
  if not readable then return true end  -- told when the answer is read
  local scopes, reserved = told.affected_scopes, told.reserved
  if type(scopes) == 'table' then
    for place = 1, math.max(#scopes, count) do
      if scopes[place] ~= ARGV[SCOPES_AFTER + place] then return false end
    end
  end
  return type(reserved) ~= 'table'
    or (reserved.unit == unit and reserved.amount == tonumber(estimate))
end

-- 1. Who asks, and was it asked before?
if credential_stale() then return {'STALE'} end
local record = redis.call('GET', idempotency_record)
local mismatch = false
if record then
  if string.sub(record, 1, 1) == '{' then
    local hash = redis.call('GET', hash_record)
    if hash == request_hash or (not hash and answers_this(record)) then
      return {'REPLAY', record}
    end
    mismatch = true
  else
    mismatch = #record == UUID_LENGTH  -- the same key holds a live reservation
  end
end
if tenant_guard == 'UNREADABLE' then return {'ERROR', 'TENANT_UNREADABLE'} end
local closed = tenant_guard == 'CLOSED'
if mismatch and not closed then return {'ERROR', 'IDEMPOTENCY_MISMATCH'} end

-- 2. Would it be held?
if policies_changed(BUDGETS_AFTER + count, SCOPES_AFTER + count) then return {'STALE'} end
local budgets = {}
for place = 1, count do
  budgets[#budgets + 1] =
    read_budget(KEYS[BUDGETS_AFTER + place], ARGV[SCOPES_AFTER + place], tenant, place)
end
local amounts = {estimate}
if not load_amounts(budgets, amounts) then return {'ERROR', 'CORRUPT_BUDGET'} end
local reason, caps = nil, ''
if closed then
  reason = 'TENANT_CLOSED'
elseif #budgets == 0 then
  if no_budget ~= '1' then return {'NO_BUDGET'} end
  reason = 'BUDGET_NOT_FOUND'
else
  reason = refusal(budgets, amounts[1])
  local deepest = budgets[#budgets]
  if not reason and deepest.place == count then
    caps = caps_of(deepest)
    if not caps then return {'ERROR', 'CORRUPT_BUDGET'} end
  end
  if not reason then caps = ruled_caps(caps, policy_caps) end
end

-- 3. Word the answer, in the form in which the reference replays it (see lib/wording). Caps are
--    passed on as they are.
local parts = {'"decision":"' .. (reason and 'DENY' or caps ~= '' and 'ALLOW_WITH_CAPS' or 'ALLOW') .. '"'}
if reason then parts[#parts + 1] = '"reason_code":"' .. reason .. '"' end
if caps ~= '' then parts[#parts + 1] = '"caps":' .. caps end
parts[#parts + 1] = '"affected_scopes":' .. scopes_json
if kind == 'dry_run' then
  parts[#parts + 1] = '"scope_path":"' .. ARGV[SCOPES_AFTER + count] .. '"'
  if not reason then parts[#parts + 1] = '"reserved":' .. amount_json(unit, amounts[1]) end
  parts[#parts + 1] = '"balances":' .. balances_json(unit, budgets)
end
local body = '{' .. table.concat(parts, ',') .. '}'

if not mismatch then
  redis.call('SET', idempotency_record, body, 'PX', IDEMPOTENCY_MS)
  redis.call('SET', hash_record, request_hash, 'PX', IDEMPOTENCY_MS)
end

return {'OK', body}
