-- admission: may this amount be held on these budgets?
--
-- refusal(budgets, amount)  the first reason against it and the budget that gives it, or nil.
--   Each rule is asked of every budget, from the tenant down, before the next rule.
local function refusal(budgets, amount)
  local clear = true
  for index = 1, #budgets do
    local budget = budgets[index]
    if budget.status ~= 'ACTIVE' or budget.over or budget.debt > zero
      or budget.remaining < amount then
      clear = false
    end
  end
  if clear then return nil end

  local rules = {
    {'BUDGET_FROZEN', function(budget) return budget.status == 'FROZEN' end},
    {'BUDGET_CLOSED', function(budget) return budget.status == 'CLOSED' end},
    {'OVERDRAFT_LIMIT_EXCEEDED', function(budget)
      return budget.over or (budget.overdraft_limit > zero and budget.debt > budget.overdraft_limit)
    end},
    {'DEBT_OUTSTANDING', function(budget)
      return budget.debt > zero and budget.overdraft_limit <= zero
    end},
    {'BUDGET_EXCEEDED', function(budget) return budget.remaining < amount end},
  }
  for _, rule in ipairs(rules) do
    for _, budget in ipairs(budgets) do
      if rule[2](budget) then return rule[1], budget end
    end
  end
  return nil
end
