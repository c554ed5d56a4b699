-- holds: what a budget still holds of an amount, and giving it back.
--
-- held(budget, amount)       nothing on a CLOSED budget, which gave its holds back when it was
--                            closed, and nothing on one made anew since; else what is reserved.
-- give_back(budget, amount)  changes the table; write_holds(budgets) writes it.
local function held(budget, amount)
  if budget.status == 'CLOSED' or budget.anew then return zero end
  return lesser(amount, budget.reserved)
end

local function give_back(budget, amount)
  local back = held(budget, amount)
  budget.reserved = budget.reserved - back
  budget.remaining = budget.remaining + back
end

local function write_holds(budgets)
  for _, budget in ipairs(budgets) do
    redis.call('HSET', budget.key, 'remaining', text(budget.remaining),
      'reserved', text(budget.reserved))
  end
end
