-- wording: parts of an answer as JSON. Scopes and units need no escaping.
--
-- Answers are worded in Python (ledger/bodies.py); here only what is kept where another server of
-- the protocol looks for it. The reference replays a decision and a dry run from this very text,
-- whatever the settings, and the other answers where CYCLES_REFERENCE_REPLAYS keeps them; a compact
-- form in its place would be damage to it. The text has to be written in the same step as the
-- decision, from the balances that the decision saw, so that step words it.
--
-- amount_json(unit, value)      an amount
-- balances_json(unit, budgets)  the array of balances; debt, limit and flag where there are any
local function amount_json(unit, value)
  return '{"unit":"' .. unit .. '","amount":' .. text(value) .. '}'
end

local function balances_json(unit, budgets)
  local balances = {}
  for index, budget in ipairs(budgets) do
    local parts = {
      '"scope":"' .. string.match(budget.scope, '[^/]*$') .. '","scope_path":"' .. budget.scope .. '"',
      '"remaining":' .. amount_json(unit, budget.remaining),
      '"reserved":' .. amount_json(unit, budget.reserved),
      '"spent":' .. amount_json(unit, budget.spent),
      '"allocated":' .. amount_json(unit, budget.allocated),
    }
    if budget.debt ~= zero then parts[#parts + 1] = '"debt":' .. amount_json(unit, budget.debt) end
    if budget.overdraft_limit ~= zero then
      parts[#parts + 1] = '"overdraft_limit":' .. amount_json(unit, budget.overdraft_limit)
    end
    if past_limit(budget) then parts[#parts + 1] = '"is_over_limit":true' end
    balances[index] = '{' .. table.concat(parts, ',') .. '}'
  end
  return '[' .. table.concat(balances, ',') .. ']'
end
