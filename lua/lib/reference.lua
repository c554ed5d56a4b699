-- reference: what the reference keeps of a first answer, in its own forms, so that it can replay
-- what this server has done. Amounts are texts there, never Lua's numbers.
--
-- quoted(plain)  a text as JSON
-- kept_row(budget, remaining, reserved, spent, debt)  one budget's balances, from amounts that are
--   texts already; it is left open, for more members
-- kept_balances(budgets, before, incurred)  the balances after the call as a JSON array; `before`:
--   each row also tells what remained before it; `incurred`: and what debt it took
local function quoted(plain) return cjson.encode(plain) end

local function kept_row(budget, remaining, reserved, spent, debt)
  local row = budget.row
  return '{"scope":"' .. budget.scope .. '","remaining":"' .. remaining .. '","reserved":"'
    .. reserved .. '","spent":"' .. spent .. '","allocated":"' .. row[ALLOCATED] .. '","debt":"'
    .. debt .. '","overdraft_limit":"' .. row[LIMIT] .. '","is_over_limit":'
    .. tostring(past_limit(budget))
end

local function kept_balances(budgets, before, incurred)
  local rows = {}
  for index, budget in ipairs(budgets) do
    local row = kept_row(budget, text(budget.remaining), text(budget.reserved),
      text(budget.spent), text(budget.debt))
    if before then
      row = row .. ',"pre_remaining":"' .. budget.row[REMAINING]
        .. '","pre_is_over_limit":' .. tostring(budget.row[OVER] == 'true')
    end
    if incurred then row = row .. ',"debt_incurred":"' .. text(budget.incurred) .. '"' end
    rows[index] = row .. '}'
  end
  return '[' .. table.concat(rows, ',') .. ']'
end
