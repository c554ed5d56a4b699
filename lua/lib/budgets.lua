-- budgets: reading a call's budgets, and telling their balances.
--
-- read_budget(key, scope, tenant, place, holding)  a table whose amounts are still texts; nil
--   where the tenant has no budget there. A record counts for the tenant it names; one without a
--   tenant counts for that of its scope, or where it is known to hold already. `place` is the
--   scope's position among the call's scopes.
-- load_amounts(budgets, amounts, digits)  turns the texts of the budgets, and of the call's own
--   amounts, into numbers in place; false if one of them is not an integer. An optional amount
--   (all but remaining and allocated) that is absent or empty is 0.
-- snapshot(budgets)  `place:remaining,reserved,spent,allocated[,debt,limit,over];...`, the form
--   in which balances are answered and kept for a replay; balance_row(...) is one of its rows,
--   from amounts that are texts already, and past_limit(budget) its `over`. A budget's `row` holds
--   what was read, optional amounts filled in, at these places:
local OVER, REMAINING, RESERVED, SPENT, ALLOCATED, DEBT, LIMIT = 3, 4, 5, 6, 7, 8, 9
local POLICY, CAPS, CREATED_AT = 10, 11, 12
local longest = 0

local function of_tenant(scope, tenant)
  local root = 'tenant:' .. string.lower(tenant)
  return scope == root or string.sub(scope, 1, #root + 1) == root .. '/'
end

local function read_budget(key, scope, tenant, place, holding)
  local row = redis.call('HMGET', key, 'tenant_id', 'status', 'is_over_limit', 'remaining',
    'reserved', 'spent', 'allocated', 'debt', 'overdraft_limit', 'commit_overage_policy',
    'caps_json', 'created_at')
  local remaining, allocated = row[4], row[7]
  if not (remaining or allocated) then return nil end
  if row[1] and row[1] ~= '' then
    if row[1] ~= tenant then return nil end
  elseif not holding and not of_tenant(scope, tenant) then
    return nil
  end
  remaining, allocated = remaining or '', allocated or ''
  local reserved, spent, debt, limit = row[5], row[6], row[8], row[9]
  if not reserved or reserved == '' then reserved, row[5] = '0', '0' end
  if not spent or spent == '' then spent, row[6] = '0', '0' end
  if not debt or debt == '' then debt, row[8] = '0', '0' end
  if not limit or limit == '' then limit, row[9] = '0', '0' end
  if #remaining > longest then longest = #remaining end
  if #reserved > longest then longest = #reserved end
  if #spent > longest then longest = #spent end
  if #allocated > longest then longest = #allocated end
  if #debt > longest then longest = #debt end
  if #limit > longest then longest = #limit end
  return {
    key = key, scope = scope, place = place, status = row[2] or 'ACTIVE', over = row[3] == 'true',
    remaining = remaining, reserved = reserved, spent = spent, allocated = allocated,
    debt = debt, overdraft_limit = limit, row = row,
    -- Digits and signs only; what else is no integer, number() finds.
    damaged = string.find(remaining .. reserved .. spent .. allocated .. debt .. limit, '[^%d%-]'),
  }
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

local function past_limit(budget)
  -- Another server may have left the flag behind the debt.
  return budget.over or budget.debt > budget.overdraft_limit
end

local function balance_row(budget, remaining, reserved, spent, allocated)
  local row = budget.place .. ':' .. remaining .. ',' .. reserved .. ',' .. spent .. ','
    .. allocated
  if budget.over or budget.debt ~= zero or budget.overdraft_limit ~= zero then
    row = row .. ',' .. text(budget.debt) .. ',' .. text(budget.overdraft_limit)
      .. (past_limit(budget) and ',1' or ',0')
  end
  return row
end

local function snapshot(budgets)
  local rows = {}
  for index = 1, #budgets do
    local budget = budgets[index]
    rows[index] = balance_row(budget, text(budget.remaining), text(budget.reserved),
      text(budget.spent), text(budget.allocated))
  end
  return table.concat(rows, ';')
end
