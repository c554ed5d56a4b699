-- charge: settle what was really used against budgets that hold an estimate (0 for a direct
-- debit). Changes the tables only; the script writes them.
--
-- charge(budgets, estimate, actual, policy, direct)   direct: a debit without a reservation
--   -> nil, charged, debt   settled: each budget has its new amounts; debt is what a budget
--                           that took debt has taken, zero if none did
--   -> code, scope          refused there; the tables are not to be written
--
-- Only what a budget still holds is taken off its `reserved` (see holds). A CLOSED budget neither
-- limits nor is flagged nor takes debt.
local function settle(budget, held, spent, debt)
  budget.reserved = budget.reserved - held
  budget.remaining = budget.remaining + held - spent - debt
  budget.spent = budget.spent + spent
  budget.debt = budget.debt + debt
  budget.incurred = debt
  return fits(budget.reserved) and fits(budget.remaining) and fits(budget.spent)
    and fits(budget.debt)
end

local function charge(budgets, estimate, actual, policy, direct)
  local over = actual > estimate
  if policy == 'REJECT' then
    if direct then
      for _, budget in ipairs(budgets) do
        if budget.remaining < actual then return 'BUDGET_EXCEEDED', budget.scope end
      end
    elseif over then
      return 'BUDGET_EXCEEDED'
    end
  end
  for _, budget in ipairs(budgets) do
    budget.held = held(budget, estimate)
    -- What could be charged beyond the estimate.
    budget.free = budget.remaining + budget.held - estimate
  end

  local charged, extra = actual, zero
  local overdraft = policy == 'ALLOW_WITH_OVERDRAFT'
  if over then
    extra = actual - estimate
    local asked = extra
    for _, budget in ipairs(budgets) do
      local bounded = not (overdraft and budget.overdraft_limit > zero)
      if budget.status ~= 'CLOSED' and bounded then
        if budget.free < asked then budget.over = true end
        if budget.free < extra then extra = budget.free end
      end
    end
    if extra < zero then extra = zero end
    charged = estimate + extra
  end

  -- A limit that refuses anywhere comes before a sum that is beyond int64.
  local in_debt = zero
  local beyond
  for _, budget in ipairs(budgets) do
    if over and overdraft and budget.overdraft_limit > zero and budget.status ~= 'CLOSED'
      and extra > zero and budget.free < extra then
      if budget.debt + extra > budget.overdraft_limit then
        return 'OVERDRAFT_LIMIT_EXCEEDED', budget.scope
      end
      if not settle(budget, budget.held, estimate, extra) then beyond = beyond or budget.scope end
      in_debt = extra
    elseif not settle(budget, budget.held, charged, zero) then
      beyond = beyond or budget.scope
    end
  end
  if beyond then return 'BUDGET_EXCEEDED', beyond end
  return nil, charged, in_debt
end

local function write_budgets(budgets)
  for _, budget in ipairs(budgets) do
    redis.call('HSET', budget.key, 'remaining', text(budget.remaining),
      'reserved', text(budget.reserved), 'spent', text(budget.spent),
      'debt', text(budget.debt), 'is_over_limit', budget.over and 'true' or 'false')
  end
end
