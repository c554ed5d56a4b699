-- reference: what the reference keeps of a first answer, in its own forms, so that it can replay
-- what this server has done. Amounts are texts there, never Lua's numbers.
--
-- quoted(plain)          a text as JSON
-- scopes_array(budgets)  their scopes as a JSON array
-- kept_balances(budgets, before, incurred)  the balances after the call as a JSON array; `before`:
--   each row also tells what remained before it; `incurred`: and what debt it took
local function quoted(plain) return cjson.encode(plain) end

local function scopes_array(budgets)
  local scopes = {}
  for index, budget in ipairs(budgets) do scopes[index] = '"' .. budget.scope .. '"' end
  return '[' .. table.concat(scopes, ',') .. ']'
end

local function kept_balances(budgets, before, incurred)
  local rows = {}
  for index, budget in ipairs(budgets) do
    local row = '{"scope":"' .. budget.scope .. '","remaining":"' .. text(budget.remaining)
      .. '","reserved":"' .. text(budget.reserved) .. '","spent":"' .. text(budget.spent)
      .. '","allocated":"' .. text(budget.allocated) .. '","debt":"' .. text(budget.debt)
      .. '","overdraft_limit":"' .. text(budget.overdraft_limit)
      .. '","is_over_limit":' .. tostring(budget.over)
    if before then
      row = row .. ',"pre_remaining":"' .. budget.row[REMAINING]
        .. '","pre_is_over_limit":' .. tostring(budget.row[OVER] == 'true')
    end
    if incurred then row = row .. ',"debt_incurred":"' .. text(budget.incurred) .. '"' end
    rows[index] = row .. '}'
  end
  return '[' .. table.concat(rows, ',') .. ']'
end
