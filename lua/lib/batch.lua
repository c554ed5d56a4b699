-- batch: the holds of many reservations of one tenant, given back together.
--
-- give_all_back(due, budget_prefix, tenant)  `due` holds a table for each reservation: amount, unit,
--   scopes, created_at. Changes the budgets' tables and returns them for write_holds; nil where one
--   of the budgets is damaged.
-- budgets_by_key  the same by their keys, false where there is none (any more)
local BATCH_DIGITS = 13  -- a batch sums up to 64 amounts: 13 digits each keep the sum exact
local budgets_by_key = {}

local function give_all_back(due, budget_prefix, tenant)
  local budgets, amounts = {}, {}
  for index, reservation in ipairs(due) do
    amounts[index] = reservation.amount
    for _, scope in ipairs(reservation.scopes) do
      local key = budget_prefix .. scope .. ':' .. reservation.unit
      if budgets_by_key[key] == nil then
        local budget = read_budget(key, scope, tenant, 1, true)
        budgets_by_key[key] = budget or false
        budgets[#budgets + 1] = budget
      end
    end
  end
  if not load_amounts(budgets, amounts, BATCH_DIGITS) then return nil end
  for index, reservation in ipairs(due) do
    for _, scope in ipairs(reservation.scopes) do
      local budget = budgets_by_key[budget_prefix .. scope .. ':' .. reservation.unit]
      if budget then
        budget.anew = made_after(budget, reservation.created_at)
        give_back(budget, amounts[index])
      end
    end
  end
  return budgets
end
