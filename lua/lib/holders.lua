-- holders: the budgets that hold a reservation's estimate.
--
-- holding_scopes(affected, budgeted)  the scopes as an array, from the stored JSON arrays;
--   `budgeted` is left out of a record where it equals `affected`.
-- held_budgets(prefix, scopes, unit, tenant)  those that still exist; a budget deleted since
--   is passed over, never brought back as a half-filled record.
local function holding_scopes(affected, budgeted)
  local scopes = {}
  for scope in string.gmatch(budgeted or affected, '"([^"]+)"') do
    scopes[#scopes + 1] = scope
  end
  return scopes
end

local function held_budgets(prefix, scopes, unit, tenant)
  local budgets = {}
  for place, scope in ipairs(scopes) do
    local key = prefix .. scope .. ':' .. unit
    budgets[#budgets + 1] = read_budget(key, scope, tenant, place)
  end
  return budgets
end

-- give_back(budgets, amount)  returns a hold to each; only what a budget still holds, nothing
--   on a CLOSED one. Changes the tables; write_holds(budgets) writes them.
local function give_back(budgets, amount)
  for _, budget in ipairs(budgets) do
    local held = budget.status == 'CLOSED' and zero or lesser(amount, budget.reserved)
    budget.reserved = budget.reserved - held
    budget.remaining = budget.remaining + held
  end
end

local function write_holds(budgets)
  for _, budget in ipairs(budgets) do
    redis.call('HSET', budget.key, 'remaining', text(budget.remaining),
      'reserved', text(budget.reserved))
  end
end
