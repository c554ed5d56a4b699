-- budgets: reading a call's budgets, and telling their balances.
--
-- read_budget(key, scope, tenant, place, holding)  a table whose amounts are still texts; nil
--   where the tenant has no budget there. A record counts for the tenant it names; one without a
--   tenant counts below `tenant:` only, or where it is known to hold already. `place` is the
--   scope's position among the call's scopes.
-- load_amounts(budgets, amounts, digits)  turns the texts of the budgets, and of the call's own
--   amounts, into numbers in place; false if one of them is not an integer.
-- snapshot(budgets)  `place:remaining,reserved,spent,allocated[,debt,limit,over];...`, the form
--   in which balances are answered and kept for a replay.
local longest = 0

local function read_budget(key, scope, tenant, place, holding)
  local row = redis.call('HMGET', key, 'tenant_id', 'status', 'is_over_limit', 'remaining',
    'reserved', 'spent', 'allocated', 'debt', 'overdraft_limit', 'commit_overage_policy',
    'caps_json', 'created_at')
  local remaining, allocated = row[4], row[7]
  if not (remaining or allocated) then return nil end
  if row[1] then
    if row[1] ~= tenant then return nil end
  elseif not holding and string.sub(scope, 1, 7) ~= 'tenant:' then
    return nil
  end
  local budget = {
    key = key, scope = scope, place = place, status = row[2] or 'ACTIVE', over = row[3] == 'true',
    remaining = remaining or '', reserved = row[5] or '0', spent = row[6] or '0',
    allocated = allocated or '', debt = row[8] or '0', overdraft_limit = row[9] or '0',
    policy = row[10], caps = row[11], created_at = row[12],
  }
  -- Digits and signs only; what else is no integer, number() finds.
  budget.damaged = string.find(budget.remaining .. budget.reserved .. budget.spent
    .. budget.allocated .. budget.debt .. budget.overdraft_limit, '[^%d%-]') ~= nil
  if #budget.remaining > longest then longest = #budget.remaining end
  if #budget.reserved > longest then longest = #budget.reserved end
  if #budget.spent > longest then longest = #budget.spent end
  if #budget.allocated > longest then longest = #budget.allocated end
  if #budget.debt > longest then longest = #budget.debt end
  if #budget.overdraft_limit > longest then longest = #budget.overdraft_limit end
  return budget
end

local function load_amounts(budgets, amounts, digits)
  for index = 1, #amounts do
    if #amounts[index] > longest then longest = #amounts[index] end
  end
  arithmetic(longest, digits or 15)
  for index = 1, #amounts do
    -- A call's own amounts are never negative.
    amounts[index] = string.find(amounts[index], '^%d+$') and number(amounts[index])
    if not amounts[index] then return false end
  end
  for index = 1, #budgets do
    local budget = budgets[index]
    if budget.damaged then return false end
    budget.remaining = number(budget.remaining)
    budget.reserved = number(budget.reserved)
    budget.spent = number(budget.spent)
    budget.allocated = number(budget.allocated)
    budget.debt = number(budget.debt)
    budget.overdraft_limit = number(budget.overdraft_limit)
    if not (budget.remaining and budget.reserved and budget.spent and budget.allocated
      and budget.debt and budget.overdraft_limit) then return false end
  end
  return true
end

local function snapshot(budgets)
  local rows = {}
  for index = 1, #budgets do
    local budget = budgets[index]
    rows[index] = budget.place .. ':' .. text(budget.remaining) .. ',' .. text(budget.reserved)
      .. ',' .. text(budget.spent) .. ',' .. text(budget.allocated)
    if budget.over or budget.debt ~= zero or budget.overdraft_limit ~= zero then
      rows[index] = rows[index] .. ',' .. text(budget.debt) .. ','
        .. text(budget.overdraft_limit) .. (budget.over and ',1' or ',0')
    end
  end
  return table.concat(rows, ';')
end
